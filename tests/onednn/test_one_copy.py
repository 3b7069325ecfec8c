"""Parameters in TEST have one copy: oneDNN's.  So large weights are not folded: the convolution's result is scaled."""

import numpy as np
import pytest

import minicaffe
from minicaffe import Sharing, onednn
from minicaffe.core.places import HOST
from minicaffe.layers.fused import onednn as fused
from minicaffe.proto import caffe_pb2, parse_text

pytestmark = pytest.mark.skipif(not onednn.available(), reason=f"oneDNN: {onednn.reason()}")

CONV = "convolution_param { num_output: 20 kernel_size: 3 pad: 1 %s weight_filler { type: 'xavier' } }"
BLOCK = f"""
force_backward: true
layer {{ name: "in" type: "Input" top: "data" input_param {{ shape {{ dim: 2 dim: 20 dim: 7 dim: 7 }} }} }}
layer {{ name: "a" type: "Convolution" bottom: "data" top: "a" {CONV % ""} }}
layer {{ name: "a_bn" type: "BatchNorm" bottom: "a" top: "a" }}
layer {{ name: "a_scale" type: "Scale" bottom: "a" top: "a" scale_param {{ bias_term: true }} }}
layer {{ name: "a_relu" type: "ReLU" bottom: "a" top: "a" relu_param {{ negative_slope: SLOPE }} }}
layer {{ name: "b" type: "Convolution" bottom: "a" top: "b" {CONV % "bias_term: false group: 2"} }}
layer {{ name: "b_bn" type: "BatchNorm" bottom: "b" top: "b" }}
layer {{ name: "b_scale" type: "Scale" bottom: "b" top: "b" scale_param {{ bias_term: true }} }}
layer {{ name: "sum" type: "Eltwise" bottom: "b" bottom: "data" top: "sum" }}
layer {{ name: "relu" type: "ReLU" bottom: "sum" top: "sum" }}
layer {{ name: "c" type: "Convolution" bottom: "sum" top: "c" {CONV % ""} }}
layer {{ name: "c_bn" type: "BatchNorm" bottom: "c" top: "c" }}
layer {{ name: "score" type: "InnerProduct" bottom: "c" top: "score"
        inner_product_param {{ num_output: 32 weight_filler {{ type: "xavier" }} }} }}
"""


def build(engine, sharing=Sharing.RECOMPUTE, slope=0):
    minicaffe.set_engine(engine)
    try:
        minicaffe.set_random_seed(2)
        param = parse_text(BLOCK.replace("SLOPE", str(slope)), caffe_pb2.NetParameter())
        net = minicaffe.Net(param, phase=minicaffe.TEST)
    finally:
        minicaffe.set_engine("DEFAULT")
    net.share_memory(sharing)
    rng = np.random.default_rng(1)
    for name, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            if "_" in name:  # statistics, factors and terms
                blob.data = rng.random(blob.shape) + 0.5
            elif i == 1:
                blob.data = rng.standard_normal(blob.shape)
    net.blobs["data"].data = rng.standard_normal(net.blobs["data"].shape)
    return net


@pytest.fixture(params=[Sharing.RECOMPUTE, Sharing.NEVER], ids=lambda sharing: sharing.name)
def nets(request, monkeypatch):
    """The block in numpy, and by oneDNN with results scaled."""
    monkeypatch.setattr(fused, "_MOST_FOLDED", 0)
    nets = build("CAFFE"), build("ONEDNN", request.param)
    assert [group.scales for group in nets[1].fused.values() if hasattr(group, "scales")] == [True] * 3
    return nets


def agree(nets):
    plain, fast = nets
    for name, blob in plain.blobs.items():
        for what in ("data", "diff"):
            expected = getattr(blob, what)
            np.testing.assert_allclose(getattr(fast.blobs[name], what), expected, 1e-3, 1e-4, err_msg=f"{name} {what}")


def test_scaled_results(nets):
    for net in nets:
        net.run_forward()
    assert all(group.intact for group in nets[1].fused.values())
    agree(nets)


def test_a_convolution_that_is_read_after_its_weights_have_changed(nets):
    for net in nets:
        net.run_forward()
        net.params["b"][0].data[...] = 0
        net.blobs["data"].data[...] = 0
    agree(nets)
    for net in nets:
        net.run_forward()
    agree(nets)


@pytest.mark.parametrize("zero", [False, True], ids=["", "a factor of 0"])
def test_backward_through_them(nets, zero):
    for net in nets:
        if zero:
            net.params["a_scale"][0].data[3] = 0
        net.run_forward()
        net.blobs["score"].diff = 1
        net.run_backward()
    agree(nets)
    for name, blobs in nets[0].params.items():
        largest = max(np.abs(blob.diff).max() for blob in blobs)
        for blob, other in zip(blobs, nets[1].params[name]):
            np.testing.assert_allclose(other.diff, blob.diff, 1e-3, 1e-4 * largest, err_msg=name)


def test_a_slope(monkeypatch):
    monkeypatch.setattr(fused, "_MOST_FOLDED", 0)
    nets = build("CAFFE", slope=0.1), build("ONEDNN", slope=0.1)
    for net in nets:
        net.run_forward()
    agree(nets)


def test_the_copy_on_the_host_is_freed_and_comes_back(monkeypatch):
    monkeypatch.setattr(fused, "_MOST_FOLDED", 0)
    net = build("ONEDNN")
    weights = {name: net.params[name][0] for name in ("a", "b", "score")}
    before = {name: blob.data.copy() for name, blob in weights.items()}
    net.run_forward()
    for blob in weights.values():
        converted = not next(iter(blob.data_memory.copies.values())).head.desc.plain
        assert (blob.data_memory._host is None) == converted and (not blob.data_memory.fresh & HOST.bit) == converted
    assert weights["a"].data_memory._host is None
    score = net.blobs["score"].read_data().copy()
    for name, blob in weights.items():
        np.testing.assert_array_equal(blob.read_data(), before[name])
    net.run_forward()
    np.testing.assert_array_equal(net.blobs["score"].read_data(), score)
    weights["score"].data[...] = 0
    net.run_forward()
    np.testing.assert_array_equal(*np.broadcast_arrays(net.blobs["score"].data, net.params["score"][1].data))


def test_nets_that_share_parameters_keep_the_copy_on_the_host():
    first, second = build("ONEDNN"), build("ONEDNN")
    second.share_with(first)
    first.run_forward()
    assert first.params["a"][0].data_memory._host is not None


def test_a_reorder_does_not_keep_its_source():
    import weakref

    from minicaffe.onednn.conversion import reorder, to_numpy
    from minicaffe.onednn.tensors import Tensor, channels_last, plain

    source, target = Tensor(plain((2, 3, 4, 5))), Tensor(channels_last((2, 3, 4, 5)))
    source.array()[...] = np.arange(120).reshape(2, 3, 4, 5)
    reorder(source, target)
    alive = weakref.ref(source)
    del source
    assert alive() is None
    other = Tensor(plain((2, 3, 4, 5)))
    reorder(other, target)
    assert not to_numpy(target).any()
