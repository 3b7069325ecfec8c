"""A pass that is repeated as the calls that it consisted of: it gives what a pass layer by layer gives."""

import numpy as np
import pytest

import minicaffe
from helpers.engines import needs_onednn
from helpers.nets import net_from_text
from minicaffe import Sharing
from minicaffe.models import zoo
from minicaffe.proto import TEST

pytestmark = needs_onednn

INPUT = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }'
CONV = (
    'layer { name: "%s" type: "Convolution" bottom: "%s" top: "%s" convolution_param { num_output: 4 kernel_size: 3 '
    'pad: 1 weight_filler { type: "xavier" } bias_filler { value: 0.1 } } }'
)
REST = (
    'layer { name: "relu" type: "ReLU" bottom: "a" top: "a" } layer { name: "tanh" type: "TanH" bottom: "a" top: "t" } '
    'layer { name: "sum" type: "Eltwise" bottom: "t" bottom: "a" top: "s" } '
    'layer { name: "drop" type: "Dropout" bottom: "s" top: "s" } '
    'layer { name: "flat" type: "Flatten" bottom: "s" top: "f" } '
    'layer { name: "ip" type: "InnerProduct" bottom: "f" top: "i" inner_product_param { num_output: 5 weight_filler { '
    'type: "xavier" } } } layer { name: "prob" type: "Softmax" bottom: "i" top: "prob" }'
)
NET = INPUT + CONV % ("conv", "data", "a") + REST


def pair(text=NET):
    """Two nets with the same weights: one that repeats its passes, and one whose blobs share no buffers."""
    nets = []
    for sharing in (Sharing.RECOMPUTE, Sharing.NEVER):
        minicaffe.set_random_seed(5)
        net = net_from_text(text, TEST)
        net.share_memory(sharing)
        nets.append(net)
    return nets


def write(nets, seed, shape=None):
    for net in nets:
        blob = net.blobs["data"]
        if shape:
            blob.reshape(shape)
        blob.data = np.random.default_rng(seed).standard_normal(blob.shape)


def run(nets, times=1):
    for net in nets:
        for _ in range(times):
            net.run_forward()


def agree(nets, *names):
    for name in names or ("prob",):
        np.testing.assert_array_equal(*(net.blobs[name].read_data() for net in nets), err_msg=name)


def repeats(net):
    """Whether the next pass will repeat the last one's calls."""
    return net.plan is not None and net.plan._replay is not None and net.plan._replay.current


@pytest.fixture
def nets():
    nets = pair()
    write(nets, 0)
    run(nets, 3)
    assert repeats(nets[0])
    return nets


def test_the_layers_code_does_not_run_in_between(nets, monkeypatch):
    write(nets, 1)
    run(nets)  # with an input that is on the host, other calls are needed than with one that the last pass converted
    for layer in nets[0].layers:
        monkeypatch.setattr(layer, "forward", None)
    write(nets, 2)
    run(nets)
    agree(nets)


@pytest.mark.parametrize("seed", range(3))
def test_new_inputs(nets, seed):
    for i in range(4):
        write(nets, 10 * seed + i)
        run(nets)
        agree(nets)


def test_an_input_written_through_a_view_that_is_held(nets):
    views = [net.blobs["data"].data for net in nets]
    for i in range(5):
        for view in views:
            view[...] = i - 2.5
        run(nets)
        agree(nets)
    assert repeats(nets[0])


def test_a_view_that_is_taken_between_two_passes(nets):
    run(nets)
    views = [net.blobs["data"].data for net in nets]
    run(nets)
    for view in views:
        view[...] = 7
    run(nets)
    agree(nets)


def test_views_of_the_outputs_show_each_pass(nets):
    views = [net.blobs["prob"].data for net in nets]
    for i in range(4):
        write(nets, i)
        run(nets)
        np.testing.assert_array_equal(*views)


def test_blobs_that_are_read_between_passes(nets):
    for i, name in enumerate(["a", "prob", "t", "s", "i"]):
        write(nets, i)
        run(nets)
        agree(nets, name, "prob")
        run(nets, 2)
        agree(nets, name, "prob")


def test_a_parameter_that_is_written_to(nets):
    for _ in range(3):
        for net in nets:
            net.params["conv"][0].data[...] *= 1.5
        run(nets, 3)
        agree(nets)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 3, 4, 16), (4, 3, 8, 8)])
def test_an_input_of_another_shape(nets, shape):
    if shape == (2, 3, 4, 16):  # the memory stays, and so does its size
        assert np.prod(shape) == nets[0].blobs["data"].count
    write(nets, 1, shape)
    run(nets)
    agree(nets)
    run(nets, 2)
    agree(nets)


def test_a_blob_that_a_script_has_reshaped(nets):
    nets[0].blobs["t"].reshape(4, 2, 8, 8)
    run(nets)
    assert nets[0].blobs["t"].shape == (2, 4, 8, 8)
    agree(nets, "t")


def test_a_blob_that_shares_another_ones_data(nets):
    given = minicaffe.Blob((2, 3, 8, 8))
    given.data = 0.25
    for net in nets:
        net.blobs["data"].share_data(given)
    run(nets)
    agree(nets)


def test_partial_passes_callbacks_and_backward_in_between(nets):
    seen = []
    for net in nets:
        net.forward(start="tanh", end="prob")
        net.before_forward(lambda i: seen.append(i))
        net.run_forward()
    assert len(seen) == 2 * len(nets[0].layers)
    agree(nets)


def test_layers_that_compute_on_the_host_are_run():
    nets = pair(INPUT + CONV % ("conv", "data", "a") + 'layer { name: "m" type: "MVN" bottom: "a" top: "prob" }')
    for i in range(4):
        write(nets, i)
        run(nets)
        agree(nets)
    assert not repeats(nets[0])


def test_an_error_in_a_repeated_pass(nets, monkeypatch):
    net = nets[0]

    def fail():
        raise MemoryError("none left")

    net.plan._replay._calls[1] = fail
    with pytest.raises(MemoryError):
        net.run_forward()
    run(nets, 4)
    agree(nets)


@pytest.mark.parametrize("make", [zoo.mobilenet, zoo.resnet50])
def test_nets_of_the_zoo(make):
    param = make(batch=1, training=False, size=64)
    nets = []
    for sharing in (Sharing.RECOMPUTE, Sharing.NEVER):
        minicaffe.set_random_seed(5)
        net = minicaffe.Net(param, phase=TEST)
        for layer in net.layers:
            if layer.type == "BatchNorm":
                layer.blobs[1].data = layer.blobs[2].data = 1
        net.share_memory(sharing)
        nets.append(net)
    for i in range(4):
        write(nets, i)
        run(nets)
        agree(nets, *list(nets[0].outputs))
    assert repeats(nets[0])
    agree(nets, *nets[0].blobs)


def test_operands_that_are_broadcast():
    """Factors and terms for samples and channels, read in the layouts of the blobs that they go with."""
    conv = "convolution_param { num_output: 20 kernel_size: 3 weight_filler { type: 'xavier' } }"
    norm = "norm_param { across_spatial: false channel_shared: false scale_filler { type: 'constant' value: 3 } }"
    text = f"""{INPUT}
    layer {{ name: 'conv' type: 'Convolution' bottom: 'data' top: 'a' {conv} }}
    layer {{ name: 'norm' type: 'Normalize' bottom: 'a' top: 'a' {norm} }}
    layer {{ name: 'bias' type: 'Bias' bottom: 'a' top: 'a' bias_param {{ filler {{ value: 0.5 }} }} }}
    layer {{ name: 'mean' type: 'Pooling' bottom: 'a' top: 'm' pooling_param {{ pool: AVE global_pooling: true }} }}
    layer {{ name: 'flat' type: 'Flatten' bottom: 'm' top: 'f' }}
    layer {{ name: 'scale' type: 'Scale' bottom: 'a' bottom: 'f' top: 's' scale_param {{ axis: 0 }} }}
    layer {{ name: 'axpy' type: 'Axpy' bottom: 'm' bottom: 's' bottom: 'a' top: 'z' }}
    layer {{ name: 'tanh' type: 'TanH' bottom: 'z' top: 't' }}
    layer {{ name: 'abs' type: 'AbsVal' bottom: 't' top: 'u' }}
    layer {{ name: 'last' type: 'Convolution' bottom: 'u' top: 'prob' {conv} }}"""
    nets = pair(text)
    for seed in range(4):
        write(nets, seed)
        run(nets)
        agree(nets)
    assert repeats(nets[0])
