"""Solver states and run states, through a solver that is built once."""

import json
import tempfile
import zlib

import h5py
import numpy as np

from fuzz import mutate
from fuzz.kind import Case, Kind
from fuzz.mutate_hdf5 import change_hdf5
from minicaffe import files, hdf5_file
from minicaffe.data import array_to_datum, open_db
from minicaffe.proto import caffe_pb2
from minicaffe.solvers import get_solver
from minicaffe.solvers.run_state import joined

NET = """
layer { name: "rows" type: "HDF5Data" top: "data" top: "label"
        hdf5_data_param { source: "%(folder)s/list.txt" batch_size: 3 shuffle: true } }
layer { name: "db" type: "Data" top: "image" data_param { source: "%(folder)s/db" backend: LMDB batch_size: 2 } }
layer { name: "mixed" type: "Data" top: "image2" transform_param { crop_size: 2 mirror: true }
        data_param { source: "%(folder)s/db" backend: LMDB batch_size: 2 shuffle: true } }
layer { name: "cont" type: "DummyData" top: "x" top: "cont" dummy_data_param {
        shape { dim: 2 dim: 3 dim: 4 } shape { dim: 2 dim: 3 } data_filler { type: "gaussian" }
        data_filler { type: "constant" value: 1 } } }
layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" top: "h" recurrent_param { num_output: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "y" inner_product_param { num_output: 4 } }
layer { name: "drop" type: "Dropout" bottom: "y" top: "y" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "%(folder)s/net.prototxt" base_lr: 0.01 lr_policy: "multistep" stepvalue: 2 stepvalue: 4 gamma: 0.5 momentum: 0.9
max_iter: 3 snapshot_prefix: "%(folder)s/s" snapshot_after_train: false random_seed: 1 average_loss: 2
snapshot_format: %(form)s
"""
_folder = tempfile.TemporaryDirectory(prefix="fuzz-states-")
_solvers = {}  # by format: the solver and the files of its snapshot


def _snapshot(form):
    """Return a solver, and the contents of solver state, weights and run state after one iteration."""
    if form not in _solvers:
        folder = _folder.name
        if not _solvers:
            _write_data(folder)
        path = f"{folder}/{form}.prototxt"
        with open(path, "w") as file:
            file.write(SOLVER % {"folder": folder, "form": form})
        solver = get_solver(path)
        solver.step(1)
        solver.snapshot()
        suffix = ".h5" if form == "HDF5" else ""
        names = [f"s_iter_1.{kind}" for kind in (f"solverstate{suffix}", f"caffemodel{suffix}", "runstate")]
        contents = {name: files.read_bytes(f"{folder}/{name}") for name in names}
        for layer in solver.net.layers:  # ends the threads, which a forked process would lack
            getattr(layer, "close", lambda: None)()
        _solvers[form] = solver, contents
    return _solvers[form]


def _write_data(folder):
    rng = np.random.default_rng(0)
    for name in "ab":
        with h5py.File(f"{folder}/{name}.h5", "w") as file:
            file["data"], file["label"] = rng.random((5, 3)), np.arange(5.0) % 4
    with open(f"{folder}/list.txt", "w") as file:
        file.write(f"{folder}/a.h5\n{folder}/b.h5\n")
    with open_db(f"{folder}/db", "lmdb", "w") as db:
        for i in range(5):
            db.put(f"{i}", array_to_datum(rng.integers(0, 256, (3, 4, 4), dtype=np.uint8)).SerializeToString())
    with open(f"{folder}/net.prototxt", "w") as file:
        file.write(NET % {"folder": folder})


def _actions(form, content):
    """Restore the solver; for one content of fifty also resume on the command line."""
    solver = _snapshot(form)[0]
    path = "s_iter_1.solverstate" + (".h5" if form == "HDF5" else "")

    train = ["train", "--solver", f"{_folder.name}/{form}.prototxt", "--snapshot", path]
    actions = [lambda: solver.restore(path)]
    return [*actions, train] if zlib.crc32(content) % 50 == 0 else actions


# -- binary ------------------------------------------------------------------------------------------------------------


def _state(**fields):
    state = caffe_pb2.SolverState.FromString(_snapshot("BINARYPROTO")[1]["s_iter_1.solverstate"])
    for name, value in fields.items():
        setattr(state, name, value)
    return state.SerializeToString()


def _binary_examples():
    return [_state(), _state(learned_net="elsewhere/s_iter_1.caffemodel", weights_sha256="", run_state_sha256="")]


def _change_state(rng, content):
    if rng.random() < 0.4:
        return mutate.flip(rng, content)
    state = caffe_pb2.SolverState.FromString(content)
    mutate.change_message(rng, state)
    return state.SerializeToString()


def _binary_case(content):
    others = _snapshot("BINARYPROTO")[1]
    return Case({**others, "s_iter_1.solverstate": content}, _actions("BINARYPROTO", content))


# -- HDF5 --------------------------------------------------------------------------------------------------------------


def _hdf5_examples():
    return [_snapshot("HDF5")[1]["s_iter_1.solverstate.h5"], bytes(hdf5_file.content(_fill))]


def _fill(file):
    """A state with compressed values, and without digests."""
    file["iter"], file["current_step"] = np.array([1], np.int32), np.array([0], np.int32)
    file["learned_net"] = "s_iter_1.caffemodel.h5"
    history = file.create_group("history")
    for i, blob in enumerate(_snapshot("HDF5")[0].history):
        history.create_dataset(str(i), data=blob.data, chunks=True, compression="gzip", shuffle=True)


def _hdf5_case(content):
    others = _snapshot("HDF5")[1]
    return Case({**others, "s_iter_1.solverstate.h5": content}, _actions("HDF5", content))


# -- run state ---------------------------------------------------------------------------------------------------------


def _run_examples():
    alone = _snapshot("BINARYPROTO")[1]["s_iter_1.runstate"]
    return [alone, json.dumps(joined([json.loads(alone)] * 2)).encode()]


def _run_case(content):
    others = _snapshot("BINARYPROTO")[1]
    state = _state(weights_sha256="", run_state_sha256="")
    actions = [*_actions("BINARYPROTO", content), lambda: _snapshot("BINARYPROTO")[0].net.forward()]
    return Case({**others, "s_iter_1.runstate": content, "s_iter_1.solverstate": state}, actions)


solverstate = Kind("solverstate", _binary_examples, _binary_case, _change_state)
solverstate_h5 = Kind("solverstate_h5", _hdf5_examples, _hdf5_case, change_hdf5)
runstate = Kind("runstate", _run_examples, _run_case, mutate.change_json)
