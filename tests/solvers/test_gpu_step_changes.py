"""Changes that a script makes between captured steps take effect as between plain steps."""

import functools
import random
import threading

import numpy as np
import pytest

from helpers.nets import solver_from_text
from minicaffe import cuda
from minicaffe.core.blob import Blob
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.testing import computing_with

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu_mode", "cuda_graphs")]

IMAGES = """
layer { name: "in" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 4 dim: 4 dim: 8 dim: 8 } shape { dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" relu_param { negative_slope: 0.1 } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "other" type: "Pooling" bottom: "conv" top: "other" pooling_param { kernel_size: 2 stride: 2 pool: AVE } }
layer { name: "max" type: "Eltwise" bottom: "pool" bottom: "other" top: "max" eltwise_param { operation: MAX } }
layer { name: "drop" type: "Dropout" bottom: "max" top: "max" }
layer { name: "ip" type: "InnerProduct" bottom: "max" top: "ip"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""

# A batch of 4 divides its taps among the emulated device's two multiprocessors, in a larger workspace than one of 5.
WIDE = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 5 dim: 29 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 5 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "Reduction" bottom: "conv" top: "loss"
        reduction_param { operation: SUMSQ } loss_weight: 1e-3 }
"""

TABLES = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 5 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "columns" type: "Im2col" bottom: "conv" top: "columns" convolution_param { kernel_size: 2 } }
layer { name: "turned" type: "Permute" bottom: "columns" top: "turned"
        permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loss" type: "Reduction" bottom: "turned" top: "loss"
        reduction_param { operation: SUMSQ } loss_weight: 1e-3 }
"""

SEQUENCES = """
layer { name: "in" type: "Input" top: "data" top: "cont" top: "label"
        input_param { shape { dim: 3 dim: 4 dim: 5 } shape { dim: 3 dim: 4 } shape { dim: 3 dim: 4 dim: 6 } } }
layer { name: "lstm" type: "LSTM" bottom: "data" bottom: "cont" top: "h"
        recurrent_param { num_output: 6 weight_filler { type: "uniform" min: -0.3 max: 0.3 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "h" bottom: "label" top: "loss" }
"""


@pytest.fixture(params=["0", "1"], ids=["no pool", "pool"])
def pool(request, monkeypatch):
    monkeypatch.setenv("MINICAFFE_DEVICE_POOL", request.param)


def make(net, text="base_lr: 0.02"):
    """Return a solver of a net with constant inputs."""
    rates = "lr_policy: 'fixed' momentum: 0.9 weight_decay: 0.01 snapshot_after_train: false"
    made = solver_from_text(f"{rates} random_seed: 3 {text}", net)
    fill(made.net)
    return made


def fill(net):
    rng = np.random.default_rng(0)
    for blob in net.tops[0]:
        blob.data[...] = rng.standard_normal(blob.shape)
    if "cont" in net.blobs:
        net.blobs["cont"].data[...] = [[0] * 4, [1] * 4, [1] * 4]
    elif "label" in net.blobs:
        net.blobs["label"].data[...] = np.arange(4) % 3


def layer(made, name):
    return made.net.layer_dict[name]


# ---- changes by a script ---------------------------------------------------------------------------------------------


def look_at(*shapes):
    """Return a change that runs forward with other input shapes, and then restores the shapes."""

    def change(made):
        net = made.net
        ours = [blob.shape for blob in net.tops[0]]
        for shape in shapes:
            for blob, lead in zip(net.tops[0], ours):
                blob.reshape(*shape[: len(lead)], *lead[len(shape) :])
            net.forward(end="ip" if "ip" in net.layer_dict else None)
        for blob, shape in zip(net.tops[0], ours):
            blob.reshape(*shape)
        net.reshape()
        fill(net)

    return change


def set_param(**values):
    def change(made):
        for name, value in values.items():
            setattr(made.param, name, value)

    return change


def set_attribute(name, **values):
    def change(made):
        for attribute, value in values.items():
            assert hasattr(layer(made, name), attribute)
            setattr(layer(made, name), attribute, value)

    return change


def multiply(which):
    def change(made):
        getattr(made.net, which)[0] *= 3

    return change


def share(made):
    other = Blob(made.net.params["ip"][0].shape)
    other.data[...] = 0.01
    made.net.params["ip"][0].share_data(other)


def share_with_another_net(made):
    other = make(IMAGES).net
    other.params["conv"][0].data[...] = 0.02
    made.net.share_with(other)


def freeze(made):
    layer(made, "ip").param_propagate_down[0] = False


def cut_off(made):
    made.net.layer_need_backward[made.net.layers.index(layer(made, "conv"))] = False


CHANGES = {
    "math": lambda made: cuda.set_math("tf32"),
    "decay_mults": multiply("decay_mults"),
    "lr_mults": multiply("lr_mults"),
    "clip_gradients": set_param(clip_gradients=0.05),
    "weight_decay": set_param(weight_decay=0.3),
    "momentum": set_param(momentum=0.2),
    "iter_size": set_param(iter_size=3),
    "dropout's threshold": set_attribute("drop", threshold=1 << 30, scale=4 / 3),
    "a slope": set_attribute("relu", negative_slope=0.7),
    "a fraction": set_attribute("bn", fraction=0.5),
    "global statistics": set_attribute("bn", use_global_stats=True),
    "a shared parameter": share,
    "another net's parameters": share_with_another_net,
    "a parameter without a gradient": freeze,
    "no gradient below a layer": cut_off,
}


def train(net, *changes):
    """Losses, parameters and history of four steps after each change, and whether each four ended in a replay."""
    made = make(net)
    losses, replayed = [], []
    for change in (lambda _: None, *changes):
        change(made)
        for _ in range(4):
            made.step(1)
            losses.append(made.net.loss())
        replayed.append(made.engine_step.captured)
    blobs = [blob for each in made.net.layers for blob in each.blobs] + made.history
    return [losses, *(blob.data.copy() for blob in blobs)], all(replayed)


def plain_and_captured(monkeypatch, net, *changes):
    """Return the results of plain steps and those of captured ones."""
    results = []
    for graph in ("0", "1"):
        monkeypatch.setenv("MINICAFFE_GRAPH", graph)
        with computing_with(math="float32"):
            result, replayed = train(net, *changes)
        assert replayed == (graph == "1")
        results.append(result)
    return results


def equal(results):
    return all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


@functools.cache
def unchanged():
    """Losses, parameters and history of a training without changes."""
    with computing_with(math="float32"):
        return train(IMAGES, lambda _: None)[0]


LOOKS = {
    "a smaller batch": (IMAGES, [(3,)]),
    "larger batches": (IMAGES, [(6,), (9,)]),
    "a batch that needs a larger workspace": (WIDE, [(4,)]),
    "more shapes than are kept": (TABLES, [(n, 3, h, 6) for n in range(1, 5) for h in range(2, 7)]),
    "other tables": (TABLES, [(4, 3, 5, 6)]),
    "fewer sequences": (SEQUENCES, [(3, 2)]),
    "more sequences": (SEQUENCES, [(3, 9), (3, 2)]),
    "fewer steps": (SEQUENCES, [(2, 4)]),
}


@pytest.mark.usefixtures("pool")
@pytest.mark.parametrize("name", LOOKS)
def test_a_look_at_other_shapes(monkeypatch, name):
    net, shapes = LOOKS[name]
    assert equal(plain_and_captured(monkeypatch, net, look_at(*shapes)))


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_counts(monkeypatch, name):
    plain, captured = plain_and_captured(monkeypatch, IMAGES, CHANGES[name])
    assert equal([plain, captured])
    assert not equal([plain, unchanged()])


@pytest.mark.parametrize("seed", range(4))
def test_several_changes(monkeypatch, seed):
    changes = [*CHANGES.values(), look_at((3,)), look_at((7,), (2,))]
    assert equal(plain_and_captured(monkeypatch, IMAGES, *random.Random(seed).sample(changes, 4)))


@pytest.mark.parametrize("name", ["a batch that needs a larger workspace", "more shapes than are kept"])
def test_what_a_layer_gives_back_is_not_written_into(monkeypatch, name):
    sizes, init = set(), DeviceBuffer.__init__
    monkeypatch.setenv("MINICAFFE_DEVICE_POOL", "1")
    monkeypatch.setattr(DeviceBuffer, "__init__", lambda self, nbytes: (init(self, nbytes), sizes.add(nbytes))[0])
    net, shapes = LOOKS[name]
    made = make(net)
    made.step(3)
    graph = made.engine_step._captured
    look_at(*shapes)(made)
    mine = [DeviceBuffer(size) for size in sorted(sizes) for _ in range(2)]
    for buffer in mine:
        buffer.from_host(np.full(buffer.nbytes, 7, np.uint8))
    graph()  # also where layers have released their buffers
    made.step(3)
    for buffer in mine:
        assert (buffer.to_host(np.empty(buffer.nbytes, np.uint8)) == 7).all()


def test_threads_train_beside_each_other():
    """Plain steps, captures and replays give each thread the same numbers as without the other threads."""

    def run(made, results, i):
        losses = []
        for step in range(12):
            made.step(1)
            losses.append(made.net.loss())
            if step % 5 == 4:
                made.engine_step._captured.invalidate()
        results[i] = losses, [blob.data.copy() for blob in made.net.learnable_params]

    def solver(i):
        return make(IMAGES, f"clip_gradients: 0.5 base_lr: {0.01 * (i + 1)}")

    alone, together = {}, {}
    for i in range(4):
        run(solver(i), alone, i)
    threads = [threading.Thread(target=run, args=(solver(i), together, i)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        assert together[i][0] == alone[i][0]
        for a, b in zip(together[i][1], alone[i][1]):
            np.testing.assert_array_equal(a, b)
