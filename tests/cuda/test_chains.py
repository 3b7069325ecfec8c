"""Layers done together on the device give the numbers of layers done one by one, whatever is asked for in between."""

import numpy as np
import pytest

from minicaffe import Net
from minicaffe.core.engine import runner
from minicaffe.core.settings import settings
from minicaffe.cuda.graph import CapturedStep
from minicaffe.errors import NetError
from minicaffe.proto import caffe_pb2, parse_text

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("thread_order")]

CONV = 'num_output: 10 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } bias_filler { type: "uniform" }'
NET = f"""
force_backward: true
layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 3 dim: 3 dim: 6 dim: 5 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "x" top: "a" convolution_param {{ {CONV} bias_term: false }} }}
layer {{ name: "bn" type: "BatchNorm" bottom: "a" top: "a" }}
layer {{ name: "scale" type: "Scale" bottom: "a" top: "a" scale_param {{ bias_term: true }} }}
layer {{ name: "relu" type: "ReLU" bottom: "a" top: "a" }}
layer {{ name: "conv2" type: "Convolution" bottom: "a" top: "b" convolution_param {{ {CONV} group: 2 }} }}
layer {{ name: "bn2" type: "BatchNorm" bottom: "b" top: "c" }}
layer {{ name: "scale2" type: "Scale" bottom: "c" top: "c" }}
layer {{ name: "sum" type: "Eltwise" bottom: "a" bottom: "c" top: "d" eltwise_param {{ coeff: 1 coeff: -2 }} }}
layer {{ name: "relu2" type: "ReLU" bottom: "d" top: "d" relu_param {{ negative_slope: 0.1 }} }}
layer {{ name: "conv3" type: "Convolution" bottom: "d" top: "e" convolution_param {{ {CONV} }} }}
layer {{ name: "relu3" type: "ReLU" bottom: "e" top: "e" relu_param {{ negative_slope: 0.2 }} }}
layer {{ name: "bn4" type: "BatchNorm" bottom: "e" top: "y" batch_norm_param {{ use_global_stats: true }} }}
layer {{ name: "scale4" type: "Scale" bottom: "y" top: "y" scale_param {{ bias_term: true }} }}
layer {{ name: "relu4" type: "ReLU" bottom: "y" top: "y" relu_param {{ negative_slope: 0.3 }} }}
layer {{ name: "conv5" type: "Convolution" bottom: "y" top: "z" convolution_param {{ {CONV} }} }}
layer {{ name: "bn5" type: "BatchNorm" bottom: "z" top: "z" batch_norm_param {{ use_global_stats: false }} }}
"""


@pytest.fixture(params=[0, 1], ids=["TRAIN", "TEST"])
def both(request, monkeypatch):
    """The net with its layers one by one, and with its chains."""
    monkeypatch.setattr(settings, "engine", runner("GPU"))
    nets = [Net(parse_text(NET, caffe_pb2.NetParameter()), phase=request.param) for _ in range(2)]
    nets[0].after_forward(lambda i: None)
    nets[0].after_backward(lambda i: None)
    for net in nets:
        rng = np.random.default_rng(1)
        for blob in (blob for blobs in net.params.values() for blob in blobs):
            blob.data = rng.standard_normal(blob.shape) * 0.3 if len(blob.shape) > 1 else rng.random(blob.shape) + 0.5
        feed(net)
    return nets


def feed(net, seed=2):
    rng = np.random.default_rng(seed)
    net.blobs["x"].data = rng.standard_normal(net.blobs["x"].shape)
    net.blobs["z"].diff = rng.standard_normal(net.blobs["z"].shape)
    net.clear_param_diffs()


def close(a, b, what):
    np.testing.assert_allclose(b, a, rtol=1e-4, atol=2e-5 * max(np.abs(a).max(), 1), err_msg=what)


def assert_same(plain, fast, diffs=True):
    for name, blob in plain.blobs.items():
        close(blob.read_data(), fast.blobs[name].read_data(), name)
    for name, blobs in plain.params.items():
        for a, b in zip(blobs, fast.params[name], strict=True):
            close(a.read_data(), b.read_data(), name)
            if diffs:
                close(a.read_diff(), b.read_diff(), name + " diff")
    if diffs:
        close(plain.blobs["x"].read_diff(), fast.blobs["x"].read_diff(), "x diff")


def test_which_layers_are_chained(both):
    first = "FoldedConvolution" if both[1].phase else "FusedNorm"
    found = [type(chain).__name__ for chain in both[1].chains.values()]
    assert found == [first, "FusedNorm", "SumReLU", "ConvolutionReLU", "FusedNorm"]


def test_passes_one_after_another(both):
    for seed in range(3):
        for net in both:
            feed(net, seed)
            net.run_forward()
            net.run_backward()
        assert_same(*both)
    assert any(chain.fused for chain in both[1].chains.values())


def test_layers_run_backward_alone_after_a_chain(both):
    for _ in range(2):
        for net in both:
            feed(net)
            net.run_forward()
            net.backward(end="scale")
            net.backward(start="bn")
        assert_same(*both)


def test_layers_run_forward_alone(both):
    for net in both:
        net.run_forward()
        net.forward(end="bn")
        net.forward(start="scale")
        net.run_backward()
    assert_same(*both)


def test_shapes_change_between_passes(both):
    for samples in (1, 5, 2):
        for net in both:
            net.blobs["x"].reshape(samples, 3, 7, 4)
            net.reshape()
            feed(net)
            net.run_forward()
            net.run_backward()
        assert_same(*both)


def test_a_passing_watcher(both):
    """Callbacks that come between the forward and the backward pass see layers one by one from there on."""
    for net in both:
        net.run_forward()
    both[1].after_backward(lambda i: None)
    for net in both:
        net.run_backward()
    assert_same(*both)


def test_infinities_and_not_a_numbers_pass_as_they_do_one_by_one(both):
    for net in both:
        feed(net)
        net.blobs["x"].data[0, 0, 0, :3] = np.inf, -np.inf, np.nan
        net.run_forward()
    for name in ("d", "e", "y"):
        plain, fast = (net.blobs[name].read_data() for net in both)
        assert (np.isnan(plain) == np.isnan(fast)).all()


def test_chains_are_captured(both, cuda_graphs):
    lines = []

    def passes(net):
        net.clear_param_diffs()
        net.run_forward()
        net.run_backward()

    steps = [CapturedStep(lambda net=net: passes(net), report=lines.append) for net in both]
    for seed in range(4):
        for net, step in zip(both, steps, strict=True):
            feed(net, seed)
            step()
        assert_same(*both)
    assert all(step.captured for step in steps) and lines == []


def test_backward_runs_where_forward_ran(both, monkeypatch):
    net = both[1]
    monkeypatch.setattr(settings, "engine", runner("CPU"))
    net.run_forward()
    monkeypatch.setattr(settings, "engine", runner("GPU"))
    with pytest.raises(NetError, match="'bn5' ran forward on the CPU, so it cannot run backward on the GPU: run forw"):
        net.run_backward()
    net.run_forward()
    net.run_backward()


def test_views_that_scripts_hold_show_the_results(both):
    """After each pass, of blobs, diffs and parameters; and writing through them counts, also when they are gone."""
    net = both[1]
    views = {name: (blob.data, blob.diff) for name, blob in net.blobs.items()}
    feed(net)
    net.forward()
    for name, (data, _) in views.items():
        np.testing.assert_array_equal(data, net.blobs[name].read_data(), err_msg=name)
    net.backward()
    for name, (_, diff) in views.items():
        np.testing.assert_array_equal(diff, net.blobs[name].read_diff(), err_msg=name)
    score = net.blobs["z"].read_data().copy()
    views["y"][0][...] *= 2
    del views, data, diff
    net.forward(start="conv5", end="conv5")
    both[0].blobs["y"].data[...] = net.blobs["y"].read_data()
    both[0].forward(start="conv5", end="conv5")
    close(both[0].blobs["z"].read_data(), net.blobs["z"].read_data(), "z")
    assert np.abs(net.blobs["z"].read_data() - score).max() > 0.1
