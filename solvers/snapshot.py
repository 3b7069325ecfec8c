"""Snapshots: `<prefix>_iter_<n>.caffemodel` and `.solverstate`, in Caffe's binary or HDF5 (`.h5`) format.

A third file, `<prefix>_iter_<n>.runstate`, is not in Caffe: JSON with the positions of all random streams and data
readers, the losses that `average_loss` averages, and the states of observers, so that a resumed run gives the same
numbers as an uninterrupted one.  It is of all ranks of a training (run_state.py).

The solver state is written last, when the other two files are on the disk, and contains their SHA-256 digests: a set of
files is whole if it has a solver state and the digests match.  The solver states of the original have no digests.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from typing import Any

import h5py
import numpy as np

from minicaffe import files, hdf5_file
from minicaffe.core import weights
from minicaffe.errors import MinicaffeError, SnapshotError, SolverError
from minicaffe.files import open_regular, read_bytes, write_atomically
from minicaffe.proto import caffe_pb2
from minicaffe.solvers import run_state as run_states
from minicaffe.solvers import stored_state
from minicaffe.solvers.stored_state import StoredState

log = logging.getLogger("minicaffe")


def file_name(solver, extension: str) -> str:
    """Return `<prefix>_iter_<n><extension>`, n being the solver's iteration."""
    return f"{solver.param.snapshot_prefix}_iter_{solver.iter}{extension}"


def state_path(solver) -> str:
    """Return the path of the solver state that `save` would write now."""
    return file_name(solver, ".solverstate" + _suffix(solver))


def _weights_path(solver) -> str:
    return file_name(solver, ".caffemodel" + _suffix(solver))


def _suffix(solver) -> str:
    return ".h5" if solver.param.snapshot_format == solver.param.HDF5 else ""


def check_writable(param) -> None:
    """Raise SolverError if `snapshot_prefix` is missing or no file with that prefix can be written.

    param: the SolverParameter.  A folder that is missing is not created.
    """
    if param.snapshot and not param.HasField("snapshot_prefix"):
        raise SolverError("snapshot is set, but snapshot_prefix, which says where to, is not")
    try:
        files.check_writable(f"{param.snapshot_prefix}_iter_{param.max_iter}.solverstate.h5")  # no name is longer
    except OSError as error:
        where = "" if os.path.isabs(param.snapshot_prefix) else (
            f" (looked in {os.getcwd()}; paths are relative to the folder in which the command runs)")  # fmt: skip
        raise SolverError(
            f"cannot write to the snapshot prefix '{param.snapshot_prefix}': {error.strerror}: "
            f"make sure that the directory exists and is writeable{where}"
        ) from None


def check_format(solver) -> None:
    """Raise SnapshotError if snapshots are requested in HDF5, and HDF5 cannot hold the weights of the net."""
    param = solver.param
    if param.snapshot_format == param.HDF5 and (param.snapshot or param.snapshot_after_train):
        weights.check_hdf5(solver.net)


# -- writing -----------------------------------------------------------------------------------------------------------


def save(solver) -> str:
    """Write run state, weights and, last, the solver state; return the path of the weights.

    All ranks call it; the root writes.
    Raises SnapshotError, at all ranks, if a file cannot be written, and as `weights.check_hdf5` does.
    """
    runs = solver.ranks.gather(solver.tests.before or run_states.of(solver))
    solver.ranks.at_root(lambda: _save(solver, run_states.joined(runs)))
    solver.last_state = state_path(solver)
    return _weights_path(solver)


def _save(solver, run: dict[str, Any]) -> None:
    hdf5 = solver.param.snapshot_format == solver.param.HDF5
    if hdf5:
        weights.check_hdf5(solver.net)
    kind = "HDF5" if hdf5 else "binary proto"
    model, state = _weights_path(solver), state_path(solver)
    run_state_sha256 = _write(file_name(solver, ".runstate"), json.dumps(run).encode())
    log.info("Snapshotting to %s file %s", kind, model)
    to_bytes = weights.to_hdf5 if hdf5 else weights.to_binary
    weights_sha256 = _write(model, to_bytes(solver.net, solver.param.snapshot_diff))
    log.info("Snapshotting solver state to %s file %s", kind, state)
    content = (_hdf5_state if hdf5 else _binary_state)(solver, model, weights_sha256, run_state_sha256)
    write_atomically(state, content, SnapshotError)


def _write(path: str, content: bytes | memoryview) -> str:
    """Write a file and return its SHA-256 digest in hexadecimal."""
    write_atomically(path, content, SnapshotError)
    return hashlib.sha256(content).hexdigest()


def _binary_state(solver, model: str, weights_sha256: str, run_state_sha256: str) -> bytes:
    state = caffe_pb2.SolverState(
        iter=solver.iter, learned_net=model, current_step=solver.current_step,
        weights_sha256=weights_sha256, run_state_sha256=run_state_sha256,
    )  # fmt: skip
    state.history.extend(blob.to_proto() for blob in solver.history)
    return state.SerializeToString()


def _hdf5_state(solver, model: str, weights_sha256: str, run_state_sha256: str) -> memoryview:
    """Return a .solverstate.h5: the groups and datasets of the original, the digests as attributes of the root."""

    def fill(file: h5py.File) -> None:
        file["iter"] = np.array([solver.iter], np.int32)
        file["current_step"] = np.array([solver.current_step], np.int32)
        name = model.encode()
        file.create_dataset("learned_net", data=np.bytes_(name + b"\0"), dtype=f"S{len(name) + 1}")
        history = file.create_group("history")
        for i, blob in enumerate(solver.history):
            history[str(i)] = blob.read_data()
        file.attrs["weights_sha256"] = np.bytes_(weights_sha256)
        file.attrs["run_state_sha256"] = np.bytes_(run_state_sha256)

    return hdf5_file.content(fill)


# -- reading -----------------------------------------------------------------------------------------------------------


def restore(solver, path: str) -> dict[str, Any]:
    """Restore the state in a .solverstate or .solverstate.h5, the weights whose path it contains, and the run state.

    Returns the run state, in which the other ranks find theirs; {} if there is none.
    Raises SnapshotError for files that cannot be read, for weights or a run state that were not written with the
    solver state, and if the history does not fit the net and the solver type; the solver is then unchanged.
    """
    stored = stored_state.read(path, solver)
    model, run = weights_of(stored, path), _read_run_state(stored, path)
    if run is None:
        level = logging.WARNING if stored.run_state_sha256 else logging.INFO
        log.log(level, "There is no %s: data and random numbers start anew", run_states.path_beside(path))
        run = {}
    before = run_states.of(solver)
    try:
        run_states.load_share(solver, run, path)
        if model:
            solver.net.copy_from(model)
    except MinicaffeError:
        run_states.load(solver, before, path)
        raise
    for blob, values in zip(solver.history, stored.history):
        blob.data[...] = values.reshape(blob.shape)
    solver.iter, solver.current_step, solver.last_state = stored.iter, stored.current_step, path
    run_states.report_size(run, path)
    return run


def weights_of(stored: StoredState, path: str) -> str:
    """Return the path of the weights of the solver state at `path`; '' if it names none.

    `learned_net` is looked for under its own path, then in the folder of the state.  A file that does not have the
    digest in the state is passed over; SnapshotError if there is no other.
    """
    beside = os.path.join(os.path.dirname(path), os.path.basename(stored.learned_net))
    found = [each for each in dict.fromkeys((stored.learned_net, beside)) if os.path.isfile(each)]
    if not found or not stored.weights_sha256:
        return found[0] if found else stored.learned_net
    for each in found:
        if _digest(each) == stored.weights_sha256:
            return each
    raise SnapshotError(
        f"'{found[0]}' is damaged, or of another run than '{path}', which names it: resume from another snapshot "
        "(--snapshot auto finds the newest whole one), or start from the weights alone (--weights)"
    )


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise SnapshotError(f"cannot read '{path}': {error.strerror}") from None
    return digest.hexdigest()


def _read_run_state(stored: StoredState, path: str) -> dict[str, Any] | None:
    """Return the run state beside the solver state at `path`; None if there is none.

    SnapshotError if it does not have the digest in the solver state, or cannot be read.
    """
    name = run_states.path_beside(path)
    try:
        content = read_bytes(name)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SnapshotError(f"cannot read '{name}': {error.strerror}") from None
    if stored.run_state_sha256 not in ("", hashlib.sha256(content).hexdigest()):
        raise SnapshotError(
            f"'{name}' is damaged, or of another run than '{path}': remove it to start data and random numbers anew"
        )
    return run_states.parse(content, name)


def check_whole(path: str) -> None:
    """Raise SnapshotError unless a solver state can be read, and its weights and run state were written with it.

    Of a set without digests, the weights have to exist.
    """
    stored = stored_state.read(path)
    model, run = weights_of(stored, path), _read_run_state(stored, path)
    if model and not os.path.isfile(model):
        raise SnapshotError(f"there are no weights '{model}'")
    if run is None and stored.run_state_sha256:
        raise SnapshotError(f"there is no run state '{run_states.path_beside(path)}'")
