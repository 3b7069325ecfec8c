"""Batch normalisation over the batches of all ranks: the same numbers as in one process with the whole batch."""

import threading

import numpy as np
import pytest

from helpers.engines import on
from helpers.nets import layer_text, net_from_text, solver_from_text
from helpers.ranks import run_ranks
from helpers.readers import write_images
from minicaffe.core import random
from minicaffe.core.settings import set_engine, settings
from minicaffe.core.sharing import Sharing
from minicaffe.errors import ParallelError, SolverError
from minicaffe.parallel.group import ALONE
from minicaffe.parallel.sockets import SocketGroup
from minicaffe.proto import TEST, caffe_pb2, parse_text, read_net
from minicaffe.testing import ONEDNN, build_layer

BATCH_NORM = layer_text("bn", "BatchNorm", "x", "y", "batch_norm_param { eps: 0.01 moving_average_fraction: 0.9 }")
SEGNET = layer_text("bn", "BN", "x", "y", "bn_param { scale_filler { value: 2 } shift_filler { value: 1 } }")
PSPNET = layer_text("bn", "BN", "x", "y m v", "bn_param { momentum: 0.8 slope_filler { value: 2 } }")
SCALE = layer_text(
    "scale", "Scale", "y", "y", "scale_param { bias_term: true filler { value: 2 } bias_filler { value: 0.5 } }"
)
RELU = layer_text("relu", "ReLU", "y", "y")
IN_PLACE = layer_text("copy", "Power", "x", "y") + layer_text("bn", "BatchNorm", "y", "y")
NETS = {
    "BatchNorm": BATCH_NORM,
    "in place": IN_PLACE,
    "with Scale": BATCH_NORM + SCALE,
    "with ReLU": BATCH_NORM + RELU,
    "with Scale and ReLU": BATCH_NORM + SCALE + RELU,
    "in place, with Scale and ReLU": IN_PLACE + SCALE + RELU,
    "SegNet's BN": SEGNET,
    "PSPNet's BN": PSPNET,
}
BN_TYPES = {name: "BN" if "BN" in name else "BatchNorm" for name in NETS}
SHAPE = (9, 4, 3, 5)


def named(*names):
    """Parameters (name of a net), marked by the layer type that they are about."""
    return [pytest.param(name, marks=pytest.mark.layers(BN_TYPES[name])) for name in names or NETS]


def numbers(shape=SHAPE):
    """x, and the gradient of the top; the samples differ, so that each share has other statistics."""
    rng = np.random.default_rng(0)
    return rng.normal(3, 2, shape) + np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)), rng.normal(0, 1, shape)


def results(name, x, dy, dtype, sharing=None):
    """[y, dx, further tops], [statistics], [diffs of learned parameters] after two passes over a batch."""
    axes = " ".join(f"dim: {axis}" for axis in x.shape)
    data = layer_text("x", "Input", "", "x", f"input_param {{ shape {{ {axes} }} }}")
    net = net_from_text("force_backward: true " + data + NETS[name], dtype=dtype)
    if sharing is not None:
        net.share_memory(sharing)
    layer = net.layers[net.layer_names.index("bn")]
    for _ in range(2):
        net.clear_param_diffs()
        net.blobs["x"].data = x
        net.run_forward()
        net.blobs["y"].diff = dy
        net.run_backward()
    tops = [net.blobs["y"].data, net.blobs["x"].diff, *(net.blobs[top].data for top in ("m", "v") if top in net.blobs)]
    statistics = list(layer.statistics_blobs) if layer.updates_statistics else []
    learned = [blob.diff for each in net.layers for blob in each.blobs if not any(blob is s for s in statistics)]
    return [[array.copy() for array in group] for group in (tops, [blob.data for blob in statistics], learned)]


def of_ranks(size, name, x, dy, dtype, sync_bn=True, sharing=None):
    """`results` of each rank, which has its share of the samples."""

    def work(group):
        settings.sync_bn = sync_bn
        shares = (np.array_split(values, size)[group.rank] for values in (x, dy))
        return results(name, *shares, dtype, sharing)

    return run_ranks(size, work)


def assert_near(got, expected, tolerance, size=1.0):
    """Equal within a part of the largest number, or of `size`."""
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * max(size, np.abs(expected).max()))


def assert_as_one_process(size, name, shape, dtype, tolerance=1e-6, **options):
    """tolerance: in float32."""
    x, dy = numbers(shape)
    tolerance = tolerance if dtype == np.float32 else 1e-12
    tops, statistics, diffs = results(name, x, dy, dtype)
    ranks = of_ranks(size, name, x, dy, dtype, **options)
    for i, expected in enumerate(tops):
        got = [rank[0][i] for rank in ranks]
        assert_near(np.concatenate(got) if i < 2 else got[0], expected, tolerance)
    for i, expected in enumerate(diffs):
        assert_near(sum(rank[2][i] for rank in ranks), expected, tolerance, size=np.abs(dy).sum() / shape[1])
    for i, expected in enumerate(statistics):
        assert_near(ranks[0][1][i], expected, tolerance)
        for other in ranks[1:]:
            np.testing.assert_array_equal(other[1][i], ranks[0][1][i])


def dtypes(engine):
    return (np.float32, np.float64) if engine.float64 else (np.float32,)


@pytest.mark.parametrize("name", named())
def test_ranks_compute_what_one_process_computes(engine, name):
    for dtype in dtypes(engine):
        assert_as_one_process(3, name, SHAPE, dtype)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("shape", [(12, 3), (9, 2, 5), (5, 3, 2, 4, 3)])  # of (9, ...) and (5, ...) shares differ
@pytest.mark.parametrize("name", named("with Scale and ReLU", "PSPNet's BN"))
def test_numbers_of_ranks_and_of_axes(engine, size, shape, name):
    for dtype in dtypes(engine):
        assert_as_one_process(size, name, shape, dtype)


@pytest.mark.layers("BatchNorm")
def test_channels_of_many_values(engine):
    """More than one block of threads shares a channel."""
    assert_as_one_process(2, "with Scale", (4, 3, 60, 60), np.float32, tolerance=5e-6)


@pytest.mark.layers("BatchNorm")
def test_a_mean_far_from_zero(engine):
    x, dy = numbers()
    for rank in of_ranks(2, "BatchNorm", 1000 + x, dy, np.float32):
        variance = rank[1][1]
        expected = 1.9 * x.var((0, 2, 3), ddof=1)
        np.testing.assert_allclose(variance, expected, rtol=1e-4)


@on(ONEDNN)
@pytest.mark.layers("BatchNorm")
def test_onednn_computes_it_by_itself(engine):
    def work(group):
        settings.sync_bn = True
        data = layer_text("x", "Input", "", "x", "input_param { shape { dim: 2 dim: 4 dim: 3 dim: 3 } }")
        net = net_from_text(data + NETS["with Scale and ReLU"])
        net.run_forward()
        return net.layers[1].collective and net.layers[1].native and not net.fused

    assert run_ranks(2, work) == [True, True]


def test_diffs_that_share_buffers():
    assert_as_one_process(2, "with Scale and ReLU", SHAPE, np.float32, sharing=Sharing.FORGET)


@pytest.mark.layers("BatchNorm")
def test_without_sync_bn_each_rank_has_the_statistics_of_its_own_batch(engine):
    x, dy = numbers()
    ranks = of_ranks(2, "BatchNorm", x, dy, np.float32, sync_bn=False)
    for (tops, statistics, _), part in zip(ranks, zip(np.array_split(x, 2), np.array_split(dy, 2)), strict=True):
        expected = results("BatchNorm", *part, np.float32)
        np.testing.assert_array_equal(tops, expected[0])
        np.testing.assert_array_equal(statistics[0], expected[1][0])
    assert (ranks[0][1][0] != ranks[1][1][0]).all()


@pytest.mark.parametrize("name", named("BatchNorm", "SegNet's BN"))
def test_gradient_through_the_whole_batch(name):
    """dx of one rank is the derivative of the sum of all ranks' losses; differences, in float64."""
    x, dy = numbers((6, 2, 3))
    picked, step = [(0, 1), (2, 3), (5, 11), (7, 14), (11, 0)], 1e-5  # elements of the share of each rank, 18 numbers

    def work(group):
        settings.sync_bn = True
        share, weights = (np.array_split(values, 2)[group.rank] for values in (x, dy))
        text = parse_text(NETS[name], caffe_pb2.NetParameter()).layer[0]
        layer, bottom, top = build_layer(str(text), share)
        found = []
        for pair in picked:
            losses = []
            for sign in (1, -1):
                bottom[0].data = share
                bottom[0].data.flat[pair[group.rank]] += sign * step * (len(found) % 2 == group.rank)
                layer.forward(bottom, top)
                losses.append((top[0].read_data() * weights).sum())
            found.append((losses[0] - losses[1]) / (2 * step))
        bottom[0].data = share
        layer.forward(bottom, top)
        top[0].diff = weights
        layer.backward(top, [True], bottom)
        return found, bottom[0].diff.copy()

    ranks = run_ranks(2, work)
    for i, pair in enumerate(picked):
        changed = i % 2
        derivative = ranks[0][0][i] + ranks[1][0][i]
        assert ranks[changed][1].flat[pair[changed]] == pytest.approx(derivative, abs=1e-8)


# -- what stays as it is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("type: 'BatchNorm'", TEST),
        ("type: 'BatchNorm' batch_norm_param { use_global_stats: false }", TEST),
        ("type: 'BatchNorm' batch_norm_param { use_global_stats: true }", 0),
        ("type: 'BN' bn_param { momentum: 0.9 frozen: true }", 0),
        ("type: 'BN' bn_param { bn_mode: INFERENCE }", 0),
        ("type: 'BN'", TEST),
    ],
)
def test_layers_that_do_not_exchange(text, phase):
    """One rank runs them by itself."""

    def work(group):
        settings.sync_bn = True
        if group.root:
            layer, bottom, top = build_layer(text, numbers()[0], phase=phase)
            layer.forward(bottom, top)
            layer.backward(top, [True], bottom)
            return layer.collective
        return False

    assert run_ranks(2, work) == [False, False]


def test_without_other_ranks_nothing_is_exchanged(monkeypatch):
    monkeypatch.setattr(type(settings), "sync_bn", True)
    assert not build_layer("type: 'BatchNorm'", numbers()[0])[0].collective
    monkeypatch.setattr(type(settings), "solver_count", 2)  # as a script of pycaffe sets it
    assert not build_layer("type: 'BatchNorm'", numbers()[0])[0].collective


def test_a_pass_has_one_exchange_in_each_direction(monkeypatch):
    sizes, lock = [], threading.Lock()
    original = SocketGroup.sum

    def counted(self, array):
        with lock:
            sizes.append(array.nbytes)
        original(self, array)

    monkeypatch.setattr(SocketGroup, "sum", counted)
    of_ranks(2, "with Scale and ReLU", *numbers(), np.float32)
    forward, backward = 8 * 2 * (1 + 2 * SHAPE[1]), 8 * (1 + 2 * SHAPE[1])
    assert sorted(sizes) == sorted([forward, backward] * 2 * 2)  # two passes, two ranks


# -- training ----------------------------------------------------------------------------------------------------------

SOLVER = """
base_lr: 0.1 momentum: 0.9 weight_decay: 0.001 lr_policy: "fixed" max_iter: 4 random_seed: 3 snapshot_after_train: false
"""
SMALL = (
    layer_text("conv", "Convolution", "data", "y",
               "convolution_param { num_output: 6 kernel_size: 3 stride: 2 weight_filler { type: 'xavier' } }")
    + layer_text("bn", "BatchNorm", "y", "y")
    + SCALE
    + RELU
    + layer_text("ip", "InnerProduct", "y", "ip",
                 "inner_product_param { num_output: 4 weight_filler { type: 'xavier' } }")
    + layer_text("loss", "SoftmaxWithLoss", "ip label", "loss")
)  # fmt: skip


def with_data(layers, source, batch):
    """The text of a net whose records are of a database."""
    data = f'transform_param {{ scale: 0.01 }} data_param {{ source: "{source}" backend: LMDB batch_size: {batch} }}'
    return layer_text("data", "Data", "", "data label", data) + layers


class Losses(list):
    """An observer: the losses of a solver's iterations."""

    def on_iteration(self, solver, loss):
        self.append(loss)


def train(solver_text, net_text):
    """Return the losses of a solver's iterations, and its parameters at the end."""
    solver, losses = solver_from_text(solver_text, net_text), Losses()
    solver.observers.append(losses)
    solver.add_callback(lambda: None, lambda: None)  # on the GPU the loss is then read in each pass
    solver.solve()
    return losses, [blob.data.copy() for blobs in solver.net.params.values() for blob in blobs]


def trained(solver_text, layers, source, batch, size=2):
    """`train` of one process, and of each rank, which has its share of the batch."""

    def work(group):
        settings.sync_bn = True
        return train(solver_text, with_data(layers, source, batch // size))

    return train(solver_text, with_data(layers, source, batch)), run_ranks(size, work)


def mean_losses(ranks):
    return np.mean([losses for losses, _ in ranks], axis=0)


def assert_same_parameters(ranks):
    for _, params in ranks[1:]:
        for own, first in zip(params, ranks[0][1], strict=True):
            np.testing.assert_array_equal(own, first)


@pytest.fixture
def pictures(tmp_path):
    """A database of 64 pictures of 3x8x8 in 4 classes."""
    rng = np.random.default_rng(1)
    return write_images(tmp_path / "lmdb", rng.integers(0, 256, (64, 3, 8, 8), np.uint8), labels=4)


@pytest.mark.parametrize("iter_size", [1, 2])
def test_training(engine, pictures, iter_size):
    solver = f"{SOLVER} average_loss: 2 iter_size: {iter_size}"
    (losses, params), ranks = trained(solver, SMALL, pictures, batch=8)
    np.testing.assert_allclose(mean_losses(ranks), losses, rtol=0, atol=1e-6)
    for own, expected in zip(ranks[0][1], params, strict=True):
        assert_near(own, expected, tolerance=1e-5)
    assert_same_parameters(ranks)


def resnet20():
    """The layers of models/cifar10_resnet20 in TRAIN, but for the data."""
    net = read_net("models/cifar10_resnet20/train_test.prototxt")
    return "".join(f"layer {{ {layer} }}" for layer in net.layer if layer.type != "Data" and not layer.include)


def sgd(text, x, labels, group, rate=0.1, updates=4):
    """The losses of a net in float64, trained with the mean gradients of a group; batch i is x[i], labels[i]."""
    random.set_random_seed(5)
    shapes = "".join(f"shape {{ {' '.join(f'dim: {axis}' for axis in each.shape[1:])} }}" for each in (x, labels))
    net = net_from_text(layer_text("data", "Input", "", "data label", f"input_param {{ {shapes} }}") + text, dtype="f8")
    losses = []
    for i in range(updates):
        net.clear_param_diffs()
        net.blobs["data"].data, net.blobs["label"].data = x[i], labels[i]
        losses.append(net.forward_backward())
        for blob, multiplier in zip(net.learnable_params, net.lr_mults):
            diff = blob.diff.flatten()
            group.sum(diff)
            blob.data = blob.data - rate * multiplier / group.size * diff.reshape(blob.shape)
    return losses


def test_resnet20_in_float64():
    """In float32 its losses differ in the third digit after some updates, as where a ReLU is at 0 rounding decides."""
    rng = np.random.default_rng(1)
    x, labels = rng.normal(0, 1, (4, 4, 3, 16, 16)), rng.integers(0, 10, (4, 4))
    text = resnet20()
    assert text.count('"BatchNorm"') > 19

    def work(group):
        settings.sync_bn = True
        share = slice(group.rank, None, group.size)
        return sgd(text, x[:, share], labels[:, share], group)

    losses = np.mean(run_ranks(2, work), axis=0)
    np.testing.assert_allclose(losses, sgd(text, x, labels, ALONE), rtol=0, atol=1e-9)


def test_resnet20_by_a_solver(tmp_path):
    rng = np.random.default_rng(1)
    source = write_images(tmp_path / "lmdb", rng.integers(0, 256, (64, 3, 16, 16), np.uint8), labels=10)
    (losses, _), ranks = trained(SOLVER.replace("base_lr: 0.1", "base_lr: 0.0001"), resnet20(), source, batch=8)
    np.testing.assert_allclose(mean_losses(ranks), losses, rtol=0, atol=1e-5)
    assert_same_parameters(ranks)


def test_a_loss_that_is_nan_at_one_rank(pictures):
    """The search for the layer does not run layers again that would wait for the other ranks."""
    text = with_data(SMALL, pictures, 4)

    def work(group):
        settings.sync_bn = True
        set_engine("CAFFE")
        solver = solver_from_text(SOLVER, text)
        solver.stop_on_nan = True
        scale = solver.net.params["scale"][0]
        solver.add_callback(lambda: scale.data.fill(1 if group.root else np.nan), lambda: None)
        try:
            solver.solve()
        except (SolverError, ParallelError) as error:
            return str(error)

    root, other = run_ranks(2, work)
    assert "which the layers 'conv', 'bn', 'scale', 'relu' write to" in other
    assert "rank 1" in root
