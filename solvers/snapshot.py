"""Snapshots: `<prefix>_iter_<n>.caffemodel` and `.solverstate`, in Caffe's binary or HDF5 (`.h5`) format.

A third file, `<prefix>_iter_<n>.runstate`, is not in Caffe: JSON with the positions of all random streams and data
readers, so that a resumed run uses the same random numbers and images as an uninterrupted one.
"""

from __future__ import annotations

import json
import logging
import os

import h5py
import numpy as np
from google.protobuf.message import DecodeError

from minicaffe import files, hdf5_file
from minicaffe.core import file_kinds, weights
from minicaffe.core.matching import numbered
from minicaffe.core.stored_weights import open_hdf5
from minicaffe.errors import SnapshotError, SolverError
from minicaffe.files import write_atomically
from minicaffe.proto import caffe_pb2

log = logging.getLogger("minicaffe")


def file_name(solver, extension: str) -> str:
    """Return `<prefix>_iter_<n><extension>`, n being the solver's iteration."""
    return f"{solver.param.snapshot_prefix}_iter_{solver.iter}{extension}"


def check_writable(param) -> None:
    """Raise SolverError if `snapshot_prefix` is missing or no file with that prefix can be written.

    param: the SolverParameter.  A folder that is missing is not created.
    """
    if param.snapshot and not param.HasField("snapshot_prefix"):
        raise SolverError("snapshot is set, but snapshot_prefix, which says where to, is not")
    try:
        files.check_writable(f"{param.snapshot_prefix}_iter_{param.max_iter}.solverstate.h5")  # no name is longer
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise SolverError(
            f"cannot write to the snapshot prefix '{param.snapshot_prefix}': "
            f"{getattr(error, 'strerror', None) or error}: make sure that the directory exists and is writeable"
        ) from None


def check_format(solver) -> None:
    """Raise SnapshotError if snapshots are requested in HDF5, and HDF5 cannot hold the weights of the net."""
    param = solver.param
    if param.snapshot_format == param.HDF5 and (param.snapshot or param.snapshot_after_train):
        weights.check_hdf5(solver.net)


# -- writing -----------------------------------------------------------------------------------------------------------


def save(solver) -> str:
    """Write weights, solver state and run state; return the path of the weights.

    Raises SnapshotError if a file cannot be written.
    """
    hdf5 = solver.param.snapshot_format == solver.param.HDF5
    kind, suffix = ("HDF5", ".h5") if hdf5 else ("binary proto", "")
    model, state = file_name(solver, ".caffemodel" + suffix), file_name(solver, ".solverstate" + suffix)
    log.info("Snapshotting to %s file %s", kind, model)
    save_weights = weights.save_hdf5 if hdf5 else weights.save_binary
    save_weights(solver.net, model, solver.param.snapshot_diff)
    log.info("Snapshotting solver state to %s file %s", kind, state)
    (_save_hdf5 if hdf5 else _save_binary)(solver, state, model)
    _save_run_state(solver, file_name(solver, ".runstate"))
    return model


def _save_binary(solver, path: str, model: str) -> None:
    state = caffe_pb2.SolverState(iter=solver.iter, learned_net=model, current_step=solver.current_step)
    state.history.extend(blob.to_proto() for blob in solver.history)
    write_atomically(path, state.SerializeToString(), SnapshotError)


def _save_hdf5(solver, path: str, model: str) -> None:
    def fill(file: h5py.File) -> None:
        file["iter"] = np.array([solver.iter], np.int32)
        file["current_step"] = np.array([solver.current_step], np.int32)
        name = model.encode()
        file.create_dataset("learned_net", data=np.bytes_(name + b"\0"), dtype=f"S{len(name) + 1}")
        history = file.create_group("history")
        for i, blob in enumerate(solver.history):
            history[str(i)] = blob.read_data()

    write_atomically(path, hdf5_file.content(fill), SnapshotError)


def _save_run_state(solver, path: str) -> None:
    nets = [solver.net, *solver.test_nets]
    state = [[(layer.name, layer.state()) for layer in net.layers] for net in nets]
    write_atomically(path, json.dumps({"nets": state}), SnapshotError)


# -- reading -----------------------------------------------------------------------------------------------------------


def restore(solver, path: str) -> None:
    """Restore the state in a .solverstate or .solverstate.h5, and the weights whose path it contains.

    Raises SnapshotError for files that cannot be read, and if the history does not fit the net and the solver type.
    """
    it, step, learned_net, history = _read(path)
    if len(history) != len(solver.history):
        raise SnapshotError(
            f"'{path}': incorrect length of history blobs: expected {len(solver.history)} for this net and the solver "
            f"type {solver.type}, got {len(history)} (is it a .solverstate of this net?)"
        )
    for i, (blob, values) in enumerate(zip(solver.history, history)):
        if values.size != blob.count:
            raise SnapshotError(f"'{path}': history {i}: expected shape {blob.shape}, got {values.shape}")
    if learned_net:
        solver.net.copy_from(_find_weights(learned_net, path))
    for blob, values in zip(solver.history, history):
        blob.data[...] = values.reshape(blob.shape)
    solver.iter, solver.current_step = it, step
    _restore_run_state(solver, path)


def _read(path: str):
    """Return iteration, step of the learning rate, path of the weights ('' for none), and history of a solver state."""
    try:
        is_hdf5, is_weights = file_kinds.is_hdf5(path), file_kinds.is_weights(path)
    except OSError as error:
        raise SnapshotError(f"cannot open the solver state '{path}': {error.strerror}") from None
    if is_weights:
        raise SnapshotError(
            f"'{path}' holds weights, not a solver state: expected iter and history as in a .solverstate; start from "
            "weights with -weights (Net.copy_from), or resume from the .solverstate that was written with them"
        )
    return _read_hdf5(path) if is_hdf5 else _read_binary(path)


def _read_binary(path: str):
    state = caffe_pb2.SolverState()
    try:
        with open(path, "rb") as file:
            state.ParseFromString(file.read())
    except DecodeError:
        state.ClearField("iter")
    if not state.HasField("iter"):
        raise SnapshotError(f"'{path}' is truncated, or no .solverstate")
    history = [np.array(blob.double_data or blob.data) for blob in state.history]
    return state.iter, state.current_step, state.learned_net, history


def _read_hdf5(path: str):
    with open_hdf5(path) as file:
        if "iter" not in file or "history" not in file:
            raise SnapshotError(f"'{path}': expected iter and history as in a .solverstate.h5, got {sorted(file)}")
        name = file["learned_net"][()] if "learned_net" in file else b""
        name = name.decode() if isinstance(name, bytes) else str(name)
        group = file["history"]
        history = [group[str(i)][()] for i in range(len(group))]
        step = int(np.ravel(file["current_step"])[0]) if "current_step" in file else 0
        return int(np.ravel(file["iter"])[0]), step, name.rstrip("\0"), history


def _find_weights(learned_net: str, state: str) -> str:
    """Return `learned_net` if the file exists, otherwise the file of that name in the folder of the state."""
    beside = os.path.join(os.path.dirname(state), os.path.basename(learned_net))
    return beside if not os.path.exists(learned_net) and os.path.exists(beside) else learned_net


def _restore_run_state(solver, path: str) -> None:
    stem = path.removesuffix(".h5").removesuffix(".solverstate")
    try:
        with open(stem + ".runstate") as file:
            saved = json.load(file)["nets"]
    except OSError:
        log.info("There is no %s.runstate: data and random numbers start anew", stem)
        return
    except (ValueError, KeyError):
        raise SnapshotError(f"'{stem}.runstate' is truncated, or no run state: remove it to start anew") from None
    for net, layers in zip([solver.net, *solver.test_nets], saved):
        layers = list(layers.items() if isinstance(layers, dict) else layers)  # older run states contain a dict
        states = dict(zip(numbered(name for name, _ in layers), (state for _, state in layers)))
        for layer, key in zip(net.layers, numbered(layer.name for layer in net.layers)):
            if key in states:
                layer.load_state(states[key])
