"""Groups of layers that CUDA kernels compute as one: closer to the layers one by one on the device, and captured.

What holds on every engine is in tests/fusion.
"""

import numpy as np
import pytest

from minicaffe import Net
from minicaffe.core.blob import Blob
from minicaffe.core.engine import runner
from minicaffe.core.settings import restored, settings
from minicaffe.cuda import ops
from minicaffe.cuda.graph import CapturedStep
from minicaffe.cuda.kernels import Kernel
from minicaffe.errors import NetError
from minicaffe.layers.fused.groups import folded
from minicaffe.layers.shared import normalizer
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


@pytest.fixture(params=[(0, 1), (0, 0), (1, 1)], ids=["TRAIN", "TRAIN-parts", "TEST"])
def both(request, monkeypatch):
    """The net with its layers one by one, and with its groups; channels in one launch, or in parts."""
    phase, whole = request.param
    if not whole:
        monkeypatch.setattr(normalizer, "_MOST_WHOLE", 0)
        monkeypatch.setattr(normalizer, "_PART", 32)
    monkeypatch.setattr(settings, "engine", runner("GPU"))
    nets = [Net(parse_text(NET, caffe_pb2.NetParameter()), phase=phase) for _ in range(2)]
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


def test_passes_one_after_another(both):
    for seed in range(3):
        for net in both:
            feed(net, seed)
            net.run_forward()
        assert all(group.intact for group in both[1].fused.values())
        for net in both:
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


def test_infinities_and_not_a_numbers_pass_as_they_do_one_by_one(both):
    for net in both:
        feed(net)
        net.blobs["x"].data[0, 0, 0, :3] = np.inf, -np.inf, np.nan
        net.run_forward()
    for name in ("d", "e", "y"):
        plain, fast = (net.blobs[name].read_data() for net in both)
        assert (np.isnan(plain) == np.isnan(fast)).all()


def test_groups_are_captured(both, cuda_graphs):
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


def test_layers_run_backward_alone_after_a_replay(both, cuda_graphs):
    """They find what the replayed forward pass has left."""

    def passes(net):
        net.run_forward()
        net.run_backward()

    steps = [CapturedStep(lambda net=net: passes(net), report=print) for net in both]
    for seed in range(4):
        for net, step in zip(both, steps, strict=True):
            feed(net, seed)
            step()
    assert all(step.captured for step in steps)
    for net in both:
        feed(net)
        net.backward(end="scale4")
        net.backward(start="bn4", end="scale")
        net.backward(start="bn")
    assert_same(*both)


def test_layers_run_by_themselves_in_a_captured_step(both, cuda_graphs):
    """As long as a view of a top is held, its signs may change, so gradients are computed layer by layer."""

    def passes(net):
        net.clear_param_diffs()
        net.run_forward()
        net.run_backward()

    held = [net.params["scale"][0].data for net in both]
    steps = [CapturedStep(lambda net=net: passes(net), report=print) for net in both]
    for seed in range(4):
        for net, step in zip(both, steps, strict=True):
            feed(net, seed)
            step()
        assert_same(*both)
    for net in both:
        net.clear_param_diffs()
        net.backward(end="scale")
        net.backward(start="bn")
    assert_same(*both)
    assert len(held) == 2 and all(step.captured for step in steps)


@pytest.mark.parametrize("variants", ["CAFFE", "CUDNN", "ONEDNN"])
def test_variants_of_other_engines_are_computed_as_one(both, variants):
    """CUDNN's convolutions differ in their product alone, and oneDNN's layers run CUDA's kernels in GPU mode."""
    with restored():
        settings.engine, settings.variants = runner("CPU" if variants == "ONEDNN" else "GPU"), variants
        net = Net(parse_text(NET, caffe_pb2.NetParameter()), phase=both[1].phase)
    for name, blobs in net.params.items():
        for blob, values in zip(blobs, both[1].params[name], strict=True):
            blob.data = values.read_data()
    feed(net)
    for each in both[0], net:
        each.run_forward()
        each.run_backward()
    assert_same(both[0], net)
    found = [[(type(group), group.start, group.end) for group in each.fused.values()] for each in (both[1], net)]
    assert found[0] == found[1]


FOLDED = f"""
layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 3 dim: 3 dim: 6 dim: 5 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "x" top: "a" convolution_param {{ {CONV} }} }}
layer {{ name: "bn" type: "BatchNorm" bottom: "a" top: "a" }}
layer {{ name: "scale" type: "Scale" bottom: "a" top: "a" scale_param {{ bias_term: true }} }}
layer {{ name: "relu" type: "ReLU" bottom: "a" top: "a" }}
"""


@pytest.fixture
def folds(monkeypatch):
    """A function that runs another and returns how often it has launched the kernel `fold`."""

    def count(run):
        names = []
        with monkeypatch.context() as patched:
            launch = Kernel.launch
            patched.setattr(
                Kernel, "launch", lambda kernel, *a, **k: (names.append(kernel.name), launch(kernel, *a, **k))
            )
            run()
        return names.count("batch_norm.fold")

    return count


@pytest.fixture
def folded_net(monkeypatch):
    """A net in TEST that is one folded convolution, and one without groups that shares its parameters."""
    monkeypatch.setattr(settings, "engine", runner("GPU"))
    fast, plain = (Net(parse_text(FOLDED, caffe_pb2.NetParameter()), phase=1) for _ in range(2))
    plain.share_with(fast)
    plain.after_forward(lambda i: None)
    rng = np.random.default_rng(0)
    for blob in (blob for blobs in fast.params.values() for blob in blobs):
        blob.data = rng.random(blob.shape) + 0.5
    fast.blobs["x"].data = plain.blobs["x"].data = rng.standard_normal(fast.blobs["x"].shape)
    return plain, fast


def check_forward(plain, fast):
    plain.run_forward()
    close(plain.blobs["a"].read_data(), fast.blobs["a"].read_data(), "a")


def change_on_the_host(net, name):
    net.params[name][0].data[...] *= 2


def change_on_the_device(net, name):
    blob = net.params[name][0]
    ops.scale(blob.count, 2, blob.mutable_gpu_data())


@pytest.mark.parametrize("change", [change_on_the_host, change_on_the_device])
def test_folded_weights_are_kept_until_a_parameter_changes(folded_net, folds, change):
    plain, fast = folded_net
    assert [folds(fast.run_forward) for _ in range(3)] == [1, 0, 0]
    for name in ("conv", "bn", "scale"):
        change(fast, name)
        assert [folds(fast.run_forward) for _ in range(2)] == [1, 0]
        check_forward(plain, fast)


def test_folded_weights_are_kept_in_a_captured_pass(folded_net, folds, cuda_graphs):
    plain, fast = folded_net
    step = CapturedStep(fast.run_forward, report=print)
    assert [folds(step) for _ in range(4)] == [1, 0, 0, 0] and step.captured
    for change in (change_on_the_host, change_on_the_device):
        change(fast, "bn")
        assert [folds(step) for _ in range(2)] == [1, 0]
        check_forward(plain, fast)


def test_folded_weights_while_a_script_holds_a_parameter(folded_net):
    plain, fast = folded_net
    held = fast.params["scale"][0].data
    for factor in (1, 2, 3):
        held *= factor
        fast.run_forward()
        check_forward(plain, fast)


@pytest.mark.parametrize("more", [True, False], ids=["all", "weights alone"])
def test_the_kernel_folds_as_the_formula_says(cuda_device, more):
    rng = np.random.default_rng(0)
    w, b, means, variances, s, t = (rng.random(shape).astype(np.float32) for shape in ((6, 3, 2, 2), *[6] * 5))
    mean, variance = means / 4, variances / 4
    expected = folded(w, b if more else 0, mean, variance, 1e-5, s if more else 1, t if more else 0)
    blobs = [Blob(each.shape) for each in (w, b, means, variances, np.ones(1), s, t)]
    for blob, values in zip(blobs, (w, b, means, variances, 4, s, t), strict=True):
        blob.data = values
    pointers = [blob.gpu_data() if more or i in (0, 2, 3, 4) else 0 for i, blob in enumerate(blobs)]
    got = Blob((6,)), Blob((6,)), Blob(w.shape), Blob((6,))
    fold = runner("GPU").kernel("batch_norm", "fold", np.dtype(np.float32))
    fold.launch((6, 1), 64, w[0].size, *pointers[:2], 1e-5, *pointers[2:], *(blob.mutable_gpu_data() for blob in got))
    for blob, values in zip(got, (mean, np.sqrt(variance + np.float32(1e-5)), *expected), strict=True):
        np.testing.assert_allclose(blob.data, values, rtol=1e-5, atol=1e-6)
