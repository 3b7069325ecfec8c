"""Losses that are nan or infinite: where they began, and that the search changes nothing."""

import logging

import numpy as np
import pytest

from helpers.engines import CUDA, on
from helpers.nets import layer_text, solver_from_text
from minicaffe.errors import SolverError
from minicaffe.solvers.nan_search import LossCheck

X = layer_text("x", "Input", "", "x", "input_param { shape { dim: 4 dim: 6 } }")
Y = layer_text("y", "Input", "", "y", "input_param { shape { dim: 4 dim: 3 } }")
IP = layer_text("ip", "InnerProduct", "x", "ip", "inner_product_param { num_output: 3 weight_filler { value: 0.1 } }")
LOSS = layer_text("loss", "EuclideanLoss", "ip y", "loss")
NET = X + Y + IP + LOSS


def in_place(name: str, kind: str, more: str = "") -> str:
    return layer_text(name, kind, "ip", "ip", more)


def solver(net: str, text: str = "display: 1", filled: dict[str, float] | None = None):
    made = solver_from_text(f"base_lr: 0.01 lr_policy: 'fixed' random_seed: 1 {text}", net)
    for name, value in (filled or {"x": 1, "y": 2}).items():
        made.net.blobs[name].data = value
    return made


def warnings(made, caplog, iterations: int = 1) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        made.step(iterations)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.layers("InnerProduct")
def test_in_the_data(engine, caplog):
    made = solver(NET, filled={"x": 1, "y": np.nan})
    assert warnings(made, caplog, 3) == ["the loss of iteration 0 is nan: the data 'y' of layer 'y' have nan"]


@pytest.mark.layers("InnerProduct")
def test_in_the_output_of_a_layer(engine, caplog):
    log = layer_text("log", "Log", "x", "log") + IP.replace('bottom: "x"', 'bottom: "log"')
    made = solver(X + Y + log + LOSS, filled={"x": -1, "y": 2})
    expected = "the loss of iteration 0 is nan: the output 'log' of layer 'log' has nan"
    assert warnings(made, caplog) == [expected]


def test_in_parameters(caplog):
    made = solver(NET)
    made.step(2)
    made.net.params["ip"][0].data[1, 1] = np.inf
    expected = "the parameters of layer 'ip' have infinite values since the update of iteration 1"
    assert warnings(made, caplog) == [f"the loss of iteration 2 is inf: {expected}"]


def test_in_initial_parameters(caplog):
    made = solver(NET)
    made.net.params["ip"][1].data[0] = np.nan
    assert warnings(made, caplog) == ["the loss of iteration 0 is nan: the parameters of layer 'ip' have nan"]


@on(CUDA)
def test_on_a_gpu_after_the_update(engine, caplog):
    """In a step that has made its update, parameters do not show where it began."""
    made = solver(NET)
    made.step(1)
    made.net.blobs["y"].data = np.nan
    assert warnings(made, caplog) == ["the loss of iteration 1 is nan: the data 'y' of layer 'y' have nan"]


@on(CUDA)
def test_on_a_gpu_losses_are_checked_where_they_are_read(engine, caplog):
    made = solver(NET, "display: 2")
    made.step(1)
    made.net.blobs["y"].data = np.nan
    assert warnings(made, caplog) == []
    assert warnings(made, caplog) == ["the loss of iteration 2 is nan: the data 'y' of layer 'y' have nan"]


def test_in_one_of_the_layers_that_work_in_place(caplog):
    power = "power_param { scale: 1e30 }"
    net = X + Y + IP + in_place("a", "Power", power) + in_place("b", "Power", power) + in_place("c", "ReLU") + LOSS
    expected = "the loss of iteration 0 is inf: the output 'ip' of layer 'b' has infinite values"
    assert warnings(solver(net), caplog) == [expected]


def test_behind_a_batch_norm_without_statistics(caplog):
    """Each of these BatchNorms, which have seen no batch, multiplies by 1 / sqrt(eps)."""
    norm = "batch_norm_param { use_global_stats: true eps: 1e-8 }"
    norms = "".join(in_place(f"bn{i}", "BatchNorm", norm) for i in range(10))
    expected = (
        "the loss of iteration 0 is inf: the output 'ip' of layer 'bn9' has infinite values; BatchNorm 'bn0' has "
        "use_global_stats: true, but statistics of no batch (its factor, blob 2, is 0), so it multiplies its input by "
        "1e+04"
    )
    assert warnings(solver(X + Y + IP + norms + LOSS), caplog) == [expected]
    trained = solver(X + Y + IP + norms + LOSS)
    for i in range(10):
        trained.net.params[f"bn{i}"][1].data[...] = trained.net.params[f"bn{i}"][2].data[...] = 1
    assert warnings(trained, caplog) == []
    data = solver(X + Y + IP + norms + LOSS, filled={"x": np.nan, "y": 2})
    assert warnings(data, caplog) == ["the loss of iteration 0 is nan: the data 'x' of layer 'x' have nan"]


def test_in_the_parameters_of_a_layer_that_works_in_place(caplog):
    made = solver(X + Y + IP + in_place("relu", "ReLU") + in_place("scale", "Scale") + LOSS)
    made.net.params["scale"][0].data[:] = np.nan
    assert warnings(made, caplog) == ["the loss of iteration 0 is nan: the parameters of layer 'scale' have nan"]


def test_layers_that_cannot_be_run_again_are_all_named(caplog):
    made = solver(X + Y + layer_text("a", "Power", "y", "y", "power_param { scale: 1e38 shift: 1e38 }") + IP + LOSS)
    made.net.blobs["y"].data = 9
    expected = "the output 'y' has infinite values, which the layers 'y', 'a' write to"
    assert warnings(made, caplog) == [f"the loss of iteration 0 is inf: {expected}"]


def test_what_does_not_enter_the_loss_is_not_its_cause(caplog):
    aside = layer_text("aside", "Log", "x", "aside") + layer_text("silence", "Silence", "aside", "")
    made = solver(X + Y + aside + IP + LOSS, filled={"x": -1, "y": np.nan})
    assert warnings(made, caplog) == ["the loss of iteration 0 is nan: the data 'y' of layer 'y' have nan"]


def test_a_batch_among_several_of_an_iteration(caplog):
    data = layer_text(
        "x", "MemoryData", "", "x t", "memory_data_param { batch_size: 2 channels: 6 height: 1 width: 1 }"
    )
    loss = layer_text("l", "Reduction", "ip", "l", "loss_weight: 1") + layer_text("s", "Silence", "t", "")
    made = solver_from_text("base_lr: 0.01 lr_policy: 'fixed' iter_size: 3", data + IP + loss)
    images = np.ones((6, 6, 1, 1), np.float32)
    images[2] = np.nan  # in the second of three batches
    made.net.set_input_arrays(images, np.zeros(6, np.float32))
    assert warnings(made, caplog) == ["the loss of iteration 0 is nan: the data 'x' of layer 'x' have nan"]


# -- stop_on_nan -------------------------------------------------------------------------------------------------------


def test_stop_on_nan_raises_before_the_update():
    made = solver(NET)
    made.stop_on_nan = True
    made.step(2)
    weights = made.net.params["ip"][0].data.copy()
    made.net.blobs["y"].data = np.nan
    with pytest.raises(SolverError, match="the loss of iteration 2 is nan: the data 'y' of layer 'y' have nan"):
        made.step(1)
    assert made.iter == 2
    np.testing.assert_array_equal(made.net.params["ip"][0].data, weights)


# -- nothing is changed ------------------------------------------------------------------------------------------------

#: an infinite loss without gradients, of layers with random numbers and averages, beside a loss that trains
ASIDE = "".join([
    layer_text("bn", "BatchNorm", "x", "bn"),
    layer_text("large", "Power", "bn", "bn", "power_param { scale: 1e30 }"),
    layer_text("drop", "Dropout", "bn", "bn"),
    layer_text("larger", "Power", "bn", "bn", "power_param { scale: 1e30 }"),
    layer_text("drop2", "Dropout", "bn", "bn"),
    layer_text("aside", "Reduction", "bn", "aside", "reduction_param { operation: SUMSQ } loss_weight: 1"),
])  # fmt: skip
DATA = layer_text("x", "DummyData", "", "x y", "dummy_data_param { shape { dim: 4 dim: 6 } shape { dim: 4 dim: 3 } "
                  "data_filler { type: 'gaussian' std: 1 } }")  # fmt: skip


def state_after(made, iterations: int) -> list:
    made.step(iterations)
    arrays = [blob.data.copy() for layer in made.net.layers for blob in layer.blobs]
    return [
        [array.tobytes() for array in arrays],
        [layer.state() for layer in made.net.layers],
        made.net.blobs["ip"].data.tobytes(),
    ]


@pytest.mark.parametrize("iter_size", [1, 2])
@pytest.mark.layers("InnerProduct", "Dropout", "BatchNorm", "Power")
def test_a_run_with_the_warning_continues_as_one_without(engine, caplog, monkeypatch, iter_size):
    def make():
        return solver_from_text(
            f"base_lr: 0.01 momentum: 0.9 lr_policy: 'fixed' random_seed: 1 display: 1 iter_size: {iter_size}",
            DATA + ASIDE + IP + in_place("drop3", "Dropout") + LOSS,
        )

    with caplog.at_level(logging.WARNING):
        searched = state_after(make(), 4)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "the output 'bn' " in warning
    if engine.name in ("numpy", "onednn"):  # whose layers are run again
        assert "of layer 'larger' has infinite values" in warning
    monkeypatch.setattr(LossCheck, "see", lambda *_: None)
    assert state_after(make(), 4) == searched
