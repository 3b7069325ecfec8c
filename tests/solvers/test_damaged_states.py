"""Solver states and run states whose values cannot be right: one sentence, and the solver stays as it was."""

import json

import h5py
import numpy as np
import pytest

from helpers.nets import solver_from_text
from minicaffe.errors import SnapshotError
from minicaffe.proto import caffe_pb2

NET = """
layer { name: "rows" type: "HDF5Data" top: "x" top: "label"
        hdf5_data_param { source: "list.txt" batch_size: 3 shuffle: true } }
layer { name: "images" type: "ImageData" top: "image" top: "class"
        image_data_param { source: "images.txt" batch_size: 1 shuffle: true } }
layer { name: "noise" type: "DummyData" top: "z" top: "cont" dummy_data_param {
        shape { dim: 2 dim: 3 dim: 4 } shape { dim: 2 dim: 3 } data_filler { type: "gaussian" }
        data_filler { type: "constant" } } }
layer { name: "lstm" type: "LSTM" bottom: "z" bottom: "cont" top: "h" recurrent_param { num_output: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "label" top: "loss" }
"""


def solver(text=""):
    return solver_from_text(
        f'base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 random_seed: 7 snapshot_prefix: "s" {text}', NET
    )


@pytest.fixture
def data(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    with h5py.File("a.h5", "w") as file:
        file["x"], file["label"] = np.random.default_rng(0).random((5, 3)), np.arange(5.0) % 4
    (tmp_path / "list.txt").write_text("a.h5\n")
    Image.new("RGB", (4, 4)).save("a.png")
    (tmp_path / "images.txt").write_text("a.png 0\n")


@pytest.fixture
def trained(data):
    made = solver()
    made.step(2)
    made.snapshot()
    state = caffe_pb2.SolverState.FromString(open_bytes("s_iter_2.solverstate"))
    state.ClearField("run_state_sha256")
    write("s_iter_2.solverstate", state.SerializeToString())
    made.step(1)
    return made


def open_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def condition(made):
    return (
        [layer.state() for layer in made.net.layers],
        [blob.read_data().tolist() for blob in [*made.net.learnable_params, *made.history]],
        made.iter,
        made.current_step,
        list(made.losses),
    )


# -- run states --------------------------------------------------------------------------------------------------------

HUGE = 10**400
ENTRIES = [
    ("noise", ["rng", "buffer_pos"], -1, "buffer_pos must be a whole number from 0 to 4, got -1"),
    ("noise", ["rng", "buffer_pos"], 5, "buffer_pos must be"),
    ("noise", ["rng", "buffer_pos"], 1.0, "buffer_pos must be"),
    ("noise", ["rng", "buffer_pos"], True, "buffer_pos must be"),
    ("noise", ["rng", "has_uint32"], 2, "has_uint32 must be"),
    ("noise", ["rng", "uinteger"], 1 << 32, "uinteger must be"),
    ("noise", ["rng", "key"], [1], "key must be 2 whole numbers of 64 bits, got .1."),
    ("noise", ["rng", "key"], [1, -1], "key must be"),
    ("noise", ["rng", "counter"], [0, 0, 0, 1 << 64], "counter must be"),
    ("noise", ["rng", "buffer"], [0, 0, 0, "0"], "buffer must be"),
    ("noise", ["rng", "buffer"], None, "buffer must be"),
    ("noise", ["rng"], {}, "key is missing in the state"),
    ("noise", ["rng"], [], "key is missing in the state"),
    ("rows", ["position"], "x", "position must be that of a reader, with seed, visit, row, got 'x'"),
    ("rows", ["position", "row"], -1, "row must be a whole number from 0"),
    ("rows", ["position", "visit"], HUGE, "visit must be .* got a huge number"),
    ("rows", ["position", "visit"], float("nan"), "visit must be .* got nan"),
    ("rows", ["position", "seed"], 1 << 64, "seed must be"),
    ("images", ["position", "epoch"], float("inf"), "epoch must be .* got inf"),
    ("images", ["position", "index"], None, "index must be"),
    ("lstm", ["states"], [[1]], "states must be lists of numbers of the shapes"),
    ("lstm", ["states"], [[[1, 2], [3, 4], [5]]] * 2, "states must be lists of numbers"),
    ("lstm", ["states"], [[["1", "2"]] * 3] * 2, "states must be lists of numbers"),
    ("lstm", ["states"], [[[HUGE, 2]] * 3] * 2, "states must be lists of numbers"),
]


@pytest.mark.parametrize(("layer", "keys", "value", "reason"), ENTRIES)
def test_a_value_that_cannot_be_right(trained, layer, keys, value, reason):
    before = condition(trained)
    run = json.loads(open_bytes("s_iter_2.runstate"))
    state = dict(run["nets"][0])[layer]
    for key in keys[:-1]:
        state = state[key]
    state[keys[-1]] = value
    write("s_iter_2.runstate", json.dumps(run).encode())
    with pytest.raises(SnapshotError, match=f"'s_iter_2.runstate': layer '{layer}': {reason}"):
        trained.restore("s_iter_2.solverstate")
    assert condition(trained) == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 100_000, "is truncated, or no run state: remove it to start anew"),
        (b'{"nets": [' + b"[" * 300 + b"]" * 300 + b"]}", ": nets must be lists of .name of a layer, state., got .*"),
        (b'{"nets": [' + b"[" * 950 + b"]" * 950 + b"]}", "(is truncated|: nets must be lists of)"),
        (b'{"nets": [' + b"9" * 4000 + b"]}", ": nets must be lists of layers, got a huge number"),
        (b"\xff", "is truncated, or no run state"),
        (b"[]", "is truncated, or no run state"),
        (b'{"nets": 3}', "is truncated, or no run state"),
        (b'{"nets": [3]}', ": nets must be lists of layers, got 3"),
        (b'{"nets": [[["noise"]]]}', r": nets must be lists of \[name of a layer, state\], got \['noise'\]"),
        (b'{"nets": [[["noise", 3]]]}', ": the state of layer 'noise' must be a dict, got 3"),
        (b'{"nets": [], "losses": ["1"]}', r": losses must be a list of numbers, got \['1'\]"),
        (b'{"nets": [], "observers": []}', r": observers must be a dict, got \[\]"),
    ],
)
def test_no_run_state(trained, content, reason):
    before = condition(trained)
    write("s_iter_2.runstate", content)
    with pytest.raises(SnapshotError, match=f"'s_iter_2.runstate'( |){reason}"):
        trained.restore("s_iter_2.solverstate")
    assert condition(trained) == before


def test_a_diverged_run_can_be_resumed(trained):
    run = json.loads(open_bytes("s_iter_2.runstate"))
    dict(run["nets"][0])["lstm"]["states"] = [[[float("nan"), float("inf")]] * 3] * 2
    run["losses"] = [float("nan")]
    write("s_iter_2.runstate", json.dumps(run).encode())
    trained.restore("s_iter_2.solverstate")
    assert np.isnan(trained.losses[0])


# -- solver states -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"iter": -1}, "iter must be from 0 to 2147483647, got -1"),
        ({"current_step": -5}, "current_step must be from 0 to"),
        ({"learned_net": "/dev/zero"}, "cannot open the weights '/dev/zero': it is a device"),
        ({"learned_net": "a\0b"}, "cannot open the weights 'a.*b': its name has a null character"),
    ],
)
def test_values_of_a_binary_state(trained, fields, reason):
    before = condition(trained)
    state = caffe_pb2.SolverState.FromString(open_bytes("s_iter_2.solverstate"))
    state.ClearField("weights_sha256")
    for name, value in fields.items():
        setattr(state, name, value)
    write("s_iter_2.solverstate", state.SerializeToString())
    with pytest.raises(SnapshotError, match=reason):
        trained.restore("s_iter_2.solverstate")
    assert condition(trained) == before


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("iter", np.array([-3]), "iter must be from 0 to 2147483647, got -3"),
        ("iter", np.array([1, 2]), 'dataset "iter" .* must be one whole number, got int64 of shape .2,.'),
        ("iter", "three", 'dataset "iter" .* must be one whole number'),
        ("current_step", 1.5, 'dataset "current_step" .* must be one whole number, got float64'),
        ("learned_net", np.zeros(3), 'dataset "learned_net" .* must be a string'),
        ("history/0", np.zeros((1 << 20, 4)), "history 0: expected 32 values of shape .8, 4., got 4194304"),
        ("history/0", ["text"] * 32, 'dataset "history/0" .* must be an array of numbers, got text'),
        ("history/00", np.zeros(4), "history must have the datasets 0 to "),
    ],
)
def test_values_of_an_hdf5_state(data, name, value, reason):
    made = solver("snapshot_format: HDF5")
    made.step(1)
    made.snapshot()
    before = condition(made)
    with h5py.File("s_iter_1.solverstate.h5", "a") as file:
        if name in file:
            del file[name]
        file[name] = value
    with pytest.raises(SnapshotError, match=reason):
        made.restore("s_iter_1.solverstate.h5")
    assert condition(made) == before
