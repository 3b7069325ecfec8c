"""Training with layers for tensor cores: as in float32 within their precision, and the same captured and plain."""

import numpy as np
import pytest

from helpers.nets import layer_text, net_from_text, solver_from_text
from helpers.residual import convolution, residual_net
from minicaffe import TEST, cuda, set_random_seed
from minicaffe.cuda.channels_last import LAST
from minicaffe.layers.tensor import channels
from minicaffe.testing import computing_with

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu_mode", "cuda_graphs")]

FILLER = 'weight_filler { type: "gaussian" std: 0.1 }'
MATHS = pytest.mark.parametrize("math", ["tf32", "bf16"])


#: cifar10_quick, with pictures of 16 x 16
QUICK = (
    layer_text(
        "in", "Input", "", "data label", "input_param { shape { dim: 8 dim: 3 dim: 16 dim: 16 } shape { dim: 8 } }"
    )
    + convolution("conv1", "data", 32, 5)
    + layer_text("pool1", "Pooling", "conv1", "pool1", "pooling_param { kernel_size: 3 stride: 2 }")
    + layer_text("relu1", "ReLU", "pool1", "pool1")
    + convolution("conv2", "pool1", 32, 5)
    + layer_text("relu2", "ReLU", "conv2", "conv2")
    + layer_text("pool2", "Pooling", "conv2", "pool2", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }")
    + convolution("conv3", "pool2", 64, 5)
    + layer_text("relu3", "ReLU", "conv3", "conv3")
    + layer_text("pool3", "Pooling", "conv3", "pool3", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }")
    + layer_text("ip1", "InnerProduct", "pool3", "ip1", f"inner_product_param {{ num_output: 64 {FILLER} }}")
    + layer_text("ip2", "InnerProduct", "ip1", "ip2", f"inner_product_param {{ num_output: 10 {FILLER} }}")
    + layer_text("loss", "SoftmaxWithLoss", "ip2 label", "loss")
)


def make(text="", net=""):
    rates = "lr_policy: 'fixed' momentum: 0.9 weight_decay: 0.01 snapshot_after_train: false"
    return solver_from_text(f"{rates} random_seed: 3 {text or 'base_lr: 0.05'}", net or residual_net())


def feed(net, seed):
    rng = np.random.default_rng(seed)
    net.blobs["data"].data = rng.standard_normal(net.blobs["data"].shape)
    net.blobs["label"].data = rng.integers(0, 10, net.blobs["label"].shape)


def results(made):
    layers, blobs = made.net.layers, made.net.blobs.values()
    params = [blob for layer in layers for blob in layer.blobs]
    return [each.copy() for blob in (*params, *blobs) for each in (blob.read_data(), blob.read_diff())]


def train(change=None, text="", net=""):
    """Losses and all blobs of 4 steps, `change(solver)`, and 4 steps more; whether both ended in replays."""
    made = make(text, net)
    losses, captured = [], []
    for part in range(2):
        for k in range(4):
            feed(made.net, 4 * part + k)
            made.step(1)
            losses.append(made.net.loss())
        captured.append(getattr(made.engine_step, "captured", False))
        if change is not None and not part:
            change(made)
    return losses, results(made), all(captured)


@pytest.mark.parametrize("net", ["residual", "quick"])
@pytest.mark.parametrize("math, most", [("tf32", 0.01), ("bf16", 0.05)])
def test_losses_are_those_of_float32(math, most, net):
    losses = []
    for gpu in (False, True):
        with computing_with(None if gpu else "CAFFE", gpu, math):
            losses.append(train(text="base_lr: 0.02", net=QUICK if net == "quick" else "")[0])
    assert losses[0][0] != losses[1][0]
    np.testing.assert_allclose(losses[1], losses[0], rtol=most)


def forward_in_between(made):
    made.net.forward()
    feed(made.net, 99)
    made.net.forward()
    made.net.backward()
    made.net.clear_param_diffs()


def other_batch(made):
    for shape in ((3, 3, 16, 16), (4, 3, 16, 16)):
        made.net.blobs["data"].reshape(*shape)
        made.net.blobs["label"].reshape(shape[0])
        feed(made.net, 7)
        made.net.forward()


def test_net(made):
    """A net that shares the parameters."""
    net = net_from_text(residual_net(2), TEST)
    net.share_with(made.net)
    feed(net, 8)
    net.forward()
    made.kept_alive = net


test_net.__test__ = False


def change_weights(made):
    made.net.params["c1"][0].data = 0.1
    made.net.params["a1_scale"][0].data = 2


def look_at_blobs(made):
    for blob in made.net.blobs.values():
        blob.data, blob.diff  # noqa: B018  (the host holds the newest values from here on)


def hold_a_view(made):
    made.view = made.net.blobs["a1"].data


def float32(made):
    cuda.set_math("float32")


CHANGES = {
    "nothing": None,
    "forward": forward_in_between,
    "other batch": other_batch,
    "a test net": test_net,
    "weights": change_weights,
    "blobs on the host": look_at_blobs,
    "a view": hold_a_view,
    "float32": float32,
}


@MATHS
@pytest.mark.parametrize("change", CHANGES)
def test_captured_as_plain(monkeypatch, math, change):
    found = []
    for graph in ("0", "1"):
        monkeypatch.setenv("MINICAFFE_GRAPH", graph)
        with computing_with(math=math):
            losses, blobs, captured = train(CHANGES[change])
        assert captured == (graph == "1")
        found.append([np.asarray(losses), *blobs])
    if change == "a view":  # plain steps run its layers backward one by one
        np.testing.assert_allclose(found[1][0], found[0][0], rtol=0.01)
        return
    for plain, replayed in zip(*found, strict=True):
        np.testing.assert_array_equal(replayed, plain)


def test_several_passes_of_a_step(monkeypatch):
    found = []
    for graph in ("0", "1"):
        monkeypatch.setenv("MINICAFFE_GRAPH", graph)
        with computing_with(math="bf16"):
            found.append(train(text="base_lr: 0.05 iter_size: 2")[:2])
    assert found[0][0] == found[1][0]
    for plain, replayed in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_array_equal(replayed, plain)


def test_failed_capture_leaves_nothing_undone(monkeypatch):
    """Conversions that a capture has recorded before it failed are made again."""
    found = []
    for fails in (False, True):
        monkeypatch.setenv("MINICAFFE_GRAPH", "1" if fails else "0")
        with computing_with(math="bf16"):
            made = make()
            layer = made.net.layer_dict["ip"]
            forward = layer.forward_gpu

            def on_host(bottom, top, forward=forward):
                bottom[0].read_data()
                forward(bottom, top)

            layer.forward_gpu = on_host
            for k in range(4):
                feed(made.net, k)
                made.step(1)
            assert not made.engine_step.captured
            found.append(results(made))
    for plain, other in zip(*found, strict=True):
        np.testing.assert_array_equal(other, plain)


def test_blobs_are_handed_on_unconverted():
    with computing_with(math="bf16"):
        made = make()
        feed(made.net, 0)
        made.net.forward()
        made.net.backward()
        net = made.net
        ordinary = {name for name, blob in net.blobs.items() if blob.data_memory.fresh != LAST.bit}
        assert ordinary == {"data", "label", "g", "ip", "loss"}
        assert all(net.blobs[name].diff_memory.fresh == LAST.bit for name in ("c1", "p1", "a1", "a2", "sn", "e", "f"))
        for layer in net.layers:
            assert all(blob.dtype == np.float32 for blob in layer.blobs)


@MATHS
def test_fused_as_one_by_one(math):
    """Each step of a fused kernel rounds as the layer of this step; sums of statistics differ in their last bits."""
    found = []
    for alone in (False, True):
        with computing_with(math=math):
            set_random_seed(3)
            net = net_from_text(residual_net() + "force_backward: true")
            feed(net, 0)
            if alone:
                net.before_forward(lambda layer: None)
                net.before_backward(lambda layer: None)
            net.forward()
            net.backward()
            assert any(layer.fused for layer in net.layers) != alone
            names = [name for name in net.blobs if name != "label"]
            data = [net.blobs[name].read_data().copy() for name in names]
            diffs = [net.blobs[name].read_diff().copy() for name in names]
            learned = [blob for layer in net.layers for blob in layer.blobs[: 1 if layer.type == "Convolution" else 2]]
            found.append((data, diffs + [blob.read_diff().copy() for blob in learned]))
    for fused, alone in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(fused, alone, rtol=2**-7 if math == "bf16" else 1e-4, atol=abs(alone).max() * 2**-8)
    for fused, alone in zip(found[0][1], found[1][1], strict=True):
        assert np.linalg.norm(fused - alone) <= 0.05 * max(np.linalg.norm(alone), 1e-4)


def test_moments_of_many_parts(monkeypatch):
    """A kernel of its own merges them, with the same result as those of few in each block."""
    found = []
    for few in (0, 1000):
        monkeypatch.setattr(channels, "_FEW_PARTS", few)
        with computing_with(math="tf32"):
            set_random_seed(3)
            net = net_from_text(residual_net())
            feed(net, 0)
            net.forward()
            assert net.layer_dict["c1_bn"].fused is net.layer_dict["c1"].fused is not None
            blobs = [*net.blobs.values(), *net.layer_dict["c1_bn"].blobs, *net.layer_dict["a2_bn"].blobs]
            found.append([blob.read_data().copy() for blob in blobs])
    for many, few in zip(*found, strict=True):
        np.testing.assert_allclose(many, few, rtol=1e-3, atol=1e-5 + 1e-3 * abs(few).max())


@MATHS
def test_backward_one_by_one_after_fused_forward(math):
    found = []
    for alone in (False, True):
        with computing_with(math=math):
            set_random_seed(3)
            net = net_from_text(residual_net() + "force_backward: true")
            feed(net, 0)
            net.forward()
            if alone:
                net.before_backward(lambda layer: None)
            net.backward()
            found.append([blob.read_diff().copy() for blob in [*net.blobs.values(), *net.layer_dict["c1"].blobs[:1]]])
    for fused, alone in zip(*found, strict=True):
        assert np.linalg.norm(fused - alone) <= (0.02 if math == "bf16" else 1e-4) * max(np.linalg.norm(alone), 1e-6)


@MATHS
def test_folded_in_test(math):
    """Convolution, BatchNorm, Scale and ReLU as one, with weights that are folded again when they change."""
    with computing_with(math="float32"):
        set_random_seed(3)
        net = net_from_text(residual_net(), TEST)
        weights = [blob.read_data().copy() for layer in net.layers for blob in layer.blobs]
    rng = np.random.default_rng(1)
    weights = [rng.uniform(0.5, 1.5, w.shape) if w.ndim == 1 else w for w in weights]
    found = []
    for gpu in (False, True):
        with computing_with(None if gpu else "CAFFE", gpu, math):
            net = net_from_text(residual_net(), TEST)
            got = []
            for factor in (1, 0.5):
                for blob, w in zip((b for layer in net.layers for b in layer.blobs), weights, strict=True):
                    blob.data = w * factor
                feed(net, 0)
                for _ in range(3):  # from the second one on a replay
                    net.forward()
                    got.append(net.blobs["ip"].read_data().copy())
            found.append(got)
    assert (found[1][0] == found[1][1]).all()
    for want, got in zip(*found, strict=True):
        np.testing.assert_allclose(got, want, atol=(0.03 if math == "bf16" else 0.004) * abs(want).max())
