"""Forward passes in TEST are replays of a graph from the second one on, with the numbers of plain passes."""

import gc
import weakref

import numpy as np
import pytest

from helpers.nets import layer_text, net_from_text, solver_from_text
from helpers.readers import write_images
from minicaffe import TEST, TRAIN
from minicaffe.core.engine import runner
from minicaffe.core.settings import restored, settings
from minicaffe.cuda import graph, memory, set_math, transform
from minicaffe.errors import LayerError

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu_mode", "cuda_graphs")]

CONV = 'convolution_param { num_output: 6 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } }'
LAYERS = [
    layer_text("conv", "Convolution", "data", "a", CONV),
    layer_text("bn", "BatchNorm", "a", "a"),
    layer_text("scale", "Scale", "a", "a", "scale_param { bias_term: true }"),
    layer_text("relu", "ReLU", "a", "a"),
    layer_text("pool", "Pooling", "a", "b", "pooling_param { kernel_size: 3 stride: 2 }"),
    layer_text("sigmoid", "Sigmoid", "b", "b"),
    layer_text(
        "ip", "InnerProduct", "b", "c", 'inner_product_param { num_output: 3 weight_filler { type: "xavier" } }'
    ),
]
LOSS = layer_text("loss", "SoftmaxWithLoss", "c label", "loss")
ACCURACY = layer_text("accuracy", "Accuracy", "c label", "accuracy", "include { phase: TEST }")
INPUT = layer_text("in", "Input", "", "data", "input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } }")
DEPLOY = "force_backward: true\n" + INPUT + "".join(LAYERS) + layer_text("prob", "Softmax", "c", "prob")


def inputs(seed, count=2):
    return np.random.default_rng(seed).standard_normal((count, 3, 8, 8)).astype(np.float32)


def parameters(net):
    return [blob for blobs in net.params.values() for blob in blobs]


def captured(net):
    run = net._whole_passes[runner("GPU")]
    return run._captured is not None and run._captured.captured


class Twins:
    """Two nets with equal parameters: the passes of the second one are plain."""

    def __init__(self, text=DEPLOY):
        self.nets = [net_from_text(text, TEST) for _ in range(2)]
        rng = np.random.default_rng(1)
        for blobs in zip(*map(parameters, self.nets)):
            values = rng.random(blobs[0].shape) + 0.2
            for blob in blobs:
                blob.data = values
        self.nets[1].after_forward(lambda i: None)

    def forward(self, seed, count=2):
        for net in self.nets:
            net.blobs["data"].reshape(count, 3, 8, 8)
            net.blobs["data"].data[...] = inputs(seed, count)
            net.forward()
        self.compare()

    def compare(self, diffs=False):
        for name, blob in self.nets[0].blobs.items():
            np.testing.assert_allclose(blob.read_data(), self.nets[1].blobs[name].read_data(), rtol=1e-4, atol=1e-5)
            if diffs:
                np.testing.assert_allclose(blob.read_diff(), self.nets[1].blobs[name].read_diff(), rtol=1e-4, atol=1e-5)

    @property
    def captured(self):
        return captured(self.nets[0])


def test_the_numbers_of_plain_passes():
    twins = Twins()
    for seed in range(5):
        twins.forward(seed)
        assert twins.captured == (seed > 0)


def test_replays_launch_no_kernels(launched):
    net = net_from_text(DEPLOY, TEST)
    for _ in range(2):
        net.forward()
    launched.clear()
    for _ in range(3):
        net.forward()
    assert launched == []


def test_only_whole_passes_in_test():
    net = net_from_text(DEPLOY, TRAIN)
    for _ in range(3):
        net.forward()
    assert net._whole_passes[runner("GPU")] is None
    net = net_from_text(DEPLOY, TEST)
    for _ in range(3):
        net.forward(end="pool")
    assert not net._whole_passes


@pytest.mark.parametrize(
    "change", ["shape", "weights", "shared weights", "attribute", "math", "partial", "cpu", "view"]
)
def test_what_a_graph_depends_on(change):
    twins = Twins()
    for seed in range(3):
        twins.forward(seed)
    for turn in range(2):
        if change == "shape":
            twins.forward(7, count=3 + turn)
        for net in twins.nets:
            _change(net, change, turn)
        for seed in range(10, 13):
            twins.forward(seed)
        assert twins.captured


def _change(net, change, turn):
    if change == "weights":
        net.params["conv"][0].data[...] *= 0.5 + turn
        net.params["bn"][0].data[...] = 0.3
    elif change == "shared weights":
        other = net_from_text(DEPLOY, TEST)
        for i, blob in enumerate(parameters(other)):
            blob.data = 0.1 * (i + turn)
        net.share_with(other)
    elif change == "attribute":
        net.layers[list(net.layer_names).index("pool")].pool = "AVE" if turn == 0 else "MAX"
    elif change == "partial":
        net.blobs["a"].data[...] = -2
        net.forward(start="relu", end="pool")
    elif change == "cpu":
        with restored():
            settings.engine = runner("CPU")
            net.forward()
    elif change == "view":
        net.held = [net.blobs["prob"].data, net.blobs["a"].data, net.params["ip"][0].data]


def test_the_precision_of_products():
    net = net_from_text(DEPLOY, TEST)
    try:
        for math in ("float32", "tf32", "float32"):
            set_math(math)
            net.forward()
            assert not captured(net)
            net.forward()
            assert captured(net)
    finally:
        set_math("float32")


def test_backward_after_a_replay():
    twins = Twins()
    for seed in range(4):
        twins.forward(seed)
        for net in twins.nets:
            net.blobs["prob"].diff[...] = inputs(seed)[:, :, 0, 0]
            net.clear_param_diffs()
            net.backward()
        twins.compare(diffs=True)


def test_views_show_each_pass():
    twins = Twins()
    held = [[net.blobs[name].data for name in ("prob", "a", "data")] for net in twins.nets]
    for seed in range(4):
        for net, (_, _, data) in zip(twins.nets, held):
            data[...] = inputs(seed)
            net.forward()
        for mine, other in zip(*held):
            np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)
    assert twins.captured


def test_buffers_that_plain_passes_take_away():
    """Passes of another shape between replays: the graph writes into no buffer that has been given back."""
    net = net_from_text(DEPLOY, TEST)
    for _ in range(4):
        for count in (2, 5, 2, 2, 2):
            net.blobs["data"].reshape(count, 3, 8, 8)
            net.blobs["data"].data[...] = 1
            net.forward()
            others = [memory.DeviceBuffer(50_000) for _ in range(3)]
            for other in others:
                other.zero()
            net.forward()
            assert not any(other.to_host(np.empty(12_500, np.float32)).any() for other in others)


def test_weights_that_change_before_a_capture_that_fails():
    twins = Twins(DEPLOY.removeprefix("force_backward: true"))
    prob = twins.nets[0].layers[-1]
    forward = prob.forward_gpu
    prob.forward_gpu = lambda *blobs: (graph.forbid("this layer reads a file"), forward(*blobs))
    for turn in range(3):
        for net in twins.nets:
            _change(net, "weights", turn)
        twins.forward(turn)
    assert not twins.captured


def test_a_layer_on_the_host_keeps_passes_plain():
    text = DEPLOY.replace('"Sigmoid"', '"Threshold"')
    net = net_from_text(text, TEST)
    net.layers[6].capturable = False
    for _ in range(3):
        net.forward()
        assert not captured(net)


def test_graphs_can_be_turned_off(monkeypatch):
    monkeypatch.setenv("MINICAFFE_GRAPH", "0")
    twins = Twins()
    for seed in range(3):
        twins.forward(seed)
        assert not twins.captured


def test_a_net_is_freed_without_the_collector():
    net = net_from_text(INPUT + LAYERS[0], TEST)  # a group and its layers know one another
    for _ in range(3):
        net.forward()
    assert captured(net)
    gone = weakref.ref(net.blobs["a"].data_memory)
    gc.disable()
    try:
        del net
        assert gone() is None
    finally:
        gc.enable()


# -- tests of a solver -------------------------------------------------------------------------------------------------


@pytest.fixture
def solver(tmp_path):
    rng = np.random.default_rng(0)
    write_images(tmp_path / "db", rng.integers(0, 256, (10, 3, 8, 8), np.uint8), labels=3)
    data = f'data_param {{ source: "{tmp_path}/db" backend: LMDB batch_size: 4 }} transform_param {{ scale: 0.01 }}'
    net = layer_text("data", "Data", "", "data label", data) + "".join(LAYERS) + ACCURACY + LOSS

    def make():
        text = "base_lr: 0.05 lr_policy: 'inv' gamma: 0.1 power: 0.5 momentum: 0.9 random_seed: 3 test_iter: 5"
        return solver_from_text(f"{text} test_interval: 100 test_compute_loss: true", net)

    return make


@pytest.mark.parametrize("room", [1 << 30, 0], ids=["resident", "streamed"])
def test_scores_of_a_solver(solver, monkeypatch, room):
    monkeypatch.setattr(transform, "room", lambda: room)
    results = []
    for plain in (False, True):
        made = solver()
        if plain:
            made.test_nets[0].after_forward(lambda i: None)
        results.append([])
        for _ in range(3):
            made.step(2)
            results[-1].append(made.test_all())
        assert plain or captured(made.test_nets[0])
        results[-1].append(made.test_nets[0].layers[0].state())
    for mine, other in zip(*(result[:-1] for result in results)):
        assert mine[0].keys() == other[0].keys()
        for name in mine[0]:
            np.testing.assert_allclose(mine[0][name], other[0][name], rtol=1e-4)
    assert results[0][-1] == results[1][-1]


def test_a_wrong_label_is_reported_in_a_replay(solver):
    made = solver()
    net = made.test_nets[0]
    for _ in range(3):
        net.forward()
    assert captured(net)
    net.layers[0].forward_gpu = lambda bottom, top: None  # the labels stay as they are
    for _ in range(3):
        net.forward()
    net.blobs["label"].data[...] = 9
    with pytest.raises(LayerError, match="label 9 is out of range"):
        net.forward()


def test_a_pass_within_a_captured_step_is_part_of_it():
    net = net_from_text(DEPLOY, TEST)
    step = graph.CapturedStep(net.run_forward, report=print)
    for seed in range(4):
        net.blobs["data"].data[...] = inputs(seed)
        step()
        expected = net_from_text(DEPLOY, TEST)
        for mine, other in zip(parameters(expected), parameters(net)):
            mine.data = other.read_data()
        expected.blobs["data"].data[...] = inputs(seed)
        expected.forward()
        np.testing.assert_allclose(net.blobs["prob"].read_data(), expected.blobs["prob"].data, rtol=1e-5)
    assert step.captured
