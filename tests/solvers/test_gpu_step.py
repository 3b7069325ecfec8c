"""A captured step gives the numbers of a plain one; callbacks and debug output make the solver take plain steps."""

import logging

import h5py  # noqa: F401  (loads HDF5 before warnings become errors)
import numpy as np
import pytest

from helpers.nets import solver_from_text
from helpers.readers import write_images
from minicaffe.cuda import transform

pytestmark = pytest.mark.gpu

NET = """
layer {{ name: "data" type: "Data" top: "data" top: "label"
        data_param {{ source: "{source}" backend: LMDB batch_size: 4 }}
        transform_param {{ crop_size: 6 mirror: true scale: 0.01 mean_value: 120 }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }}
layer {{ name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param {{ bias_term: true }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param {{ kernel_size: 3 stride: 2 }} }}
layer {{ name: "sigmoid" type: "Sigmoid" bottom: "pool" top: "pool" }}
layer {{ name: "drop" type: "Dropout" bottom: "pool" top: "pool" }}
layer {{ name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
        inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
"""


@pytest.fixture
def solver(gpu_mode, cuda_graphs, tmp_path):
    rng = np.random.default_rng(0)
    write_images(tmp_path / "db", rng.integers(0, 256, (10, 3, 8, 8), np.uint8), labels=3)

    def make(text=""):
        rate = "base_lr: 0.05 lr_policy: 'inv' gamma: 0.1 power: 0.5 momentum: 0.9 weight_decay: 0.01"
        return solver_from_text(f"{rate} random_seed: 3 {text}", NET.format(source=tmp_path / "db"))

    return make


def weights(made):
    return [blob.data.copy() for blob in made.net.learnable_params]


def plain(made):
    """The same solver with a callback that does nothing, so that its steps are plain."""
    made.add_callback(lambda: None, lambda: None)
    return made


@pytest.mark.parametrize(
    "text", ["", "type: 'Adam'", "iter_size: 2", "clip_gradients: 0.1", "average_loss: 3 display: 2"]
)
def test_the_numbers_of_a_plain_step(solver, text):
    captured, looked_at = solver(text), plain(solver(text))
    for made in (captured, looked_at):
        made.step(9)
    assert captured.engine_step._captured.captured
    for a, b in zip(weights(captured), weights(looked_at)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert captured.net.layers[0].state() == looked_at.net.layers[0].state()


@pytest.mark.parametrize("room", [1 << 30, 0], ids=["resident", "streamed"])
def test_each_pass_of_a_captured_step_has_a_batch_of_its_own(solver, monkeypatch, room):
    monkeypatch.setattr(transform, "room", lambda: room)
    captured, looked_at = solver("iter_size: 3"), plain(solver("iter_size: 3"))
    for made in (captured, looked_at):
        made.step(6)
    assert captured.engine_step.captured
    for a, b in zip(weights(captured), weights(looked_at)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_snapshots_between_replays_resume(solver, tmp_path):
    more = f"snapshot_prefix: '{tmp_path}/s' snapshot: 5 max_iter: 9 snapshot_after_train: false"
    whole, resumed = solver(more), solver(more)
    whole.solve()
    resumed.solve(f"{tmp_path}/s_iter_5.solverstate")
    for a, b in zip(weights(whole), weights(resumed)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("room", [1 << 30, 0], ids=["resident", "streamed"])
def test_a_training_restored_while_it_is_replayed(solver, monkeypatch, tmp_path, room):
    monkeypatch.setattr(transform, "room", lambda: room)
    made = solver(f"snapshot_prefix: '{tmp_path}/s'")
    made.step(4)
    path = made.snapshot().replace("caffemodel", "solverstate")
    results = []
    for _ in range(3):
        made.step(4)
        results.append(weights(made))
        assert made.engine_step.captured
        made.restore(path)
    for a, b, c in zip(*results):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_what_a_script_writes_between_steps_counts(solver):
    captured, looked_at = solver(), plain(solver())
    for made in (captured, looked_at):
        made.step(4)
        made.net.params["ip"][0].data[...] = 0.5
        made.param.base_lr = 0.2
        made.step(4)
    for a, b in zip(weights(captured), weights(looked_at)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_layer_on_the_host_is_named_once(solver, caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    made = solver()
    made.net.layers[2].capturable = False
    for i in range(4):
        made.step(1)
        made.net.layers[2].passes = [i]
    lines = [line for line in caplog.messages if "CUDA graph" in line]
    assert lines == ["The step runs without a CUDA graph: BatchNorm layer 'bn' works on the host"]
    assert np.isfinite(made.net.blobs["loss"].data)


def test_display_and_debug_info_see_every_layer(solver, caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    made = solver("display: 3 debug_info: true")
    made.step(7)
    assert sum("[Forward] Layer ip, top blob ip data" in line for line in caplog.messages) == 3
    assert sum(line.startswith("Iteration") and "loss" in line for line in caplog.messages) == 3


def test_views_that_a_script_holds(solver):
    """Views of outputs, diffs and weights do not prevent capture, and can be read and written between steps."""
    captured, looked_at = solver(), plain(solver())
    for made in (captured, looked_at):
        held = [made.net.blobs["loss"].data, made.net.blobs["ip"].diff, made.net.params["ip"][0].data]
        losses = []
        for i in range(6):
            made.step(1)
            losses.append(float(held[0]))
            held[2][...] *= 1 + 0.1 * i
            assert np.abs(held[1]).max() > 0
        made.losses = losses
    assert captured.engine_step.captured
    np.testing.assert_allclose(captured.losses, looked_at.losses, rtol=1e-5)
    for a, b in zip(weights(captured), weights(looked_at)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
