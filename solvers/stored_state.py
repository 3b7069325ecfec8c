"""Reading of solver states, .solverstate and .solverstate.h5."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from minicaffe.core import file_kinds
from minicaffe.errors import SnapshotError
from minicaffe.files import read_bytes
from minicaffe.hdf5_file import Dataset, Hdf5File, opened
from minicaffe.proto import caffe_pb2
from minicaffe.proto.reading import text_kind

LARGEST_ITERATION = 2**31 - 1


class StoredState(NamedTuple):
    """What a solver state contains; `learned_net` and the digests are '' where it lacks them."""

    iter: int
    current_step: int
    learned_net: str
    history: list[np.ndarray]
    weights_sha256: str
    run_state_sha256: str


def read(path: str, solver=None) -> StoredState:
    """Return the content of a solver state.

    solver: the solver that is to continue from it; None (default): not compared with a solver.
    SnapshotError for another or a damaged file, and if the history does not fit the net and the type of `solver`; the
    values of the history are not read then.
    """
    try:
        is_hdf5 = file_kinds.is_hdf5(path)
        if not is_hdf5 and file_kinds.is_weights(path):
            raise _is_weights(path)
        if not is_hdf5 and file_kinds.is_blob(path):
            raise SnapshotError(f"'{path}' is a mean or another blob, not a solver state: give a .solverstate")
        if not is_hdf5:
            return _checked(_read_binary(path, solver), path)
    except OSError as error:
        raise SnapshotError(f"cannot open the solver state '{path}': {error.strerror}") from None
    with opened(path, SnapshotError) as file:
        if file_kinds.is_weights(file):
            raise _is_weights(path)
        return _checked(_read_hdf5(file, solver), path)


def _is_weights(path: str) -> SnapshotError:
    return SnapshotError(
        f"'{path}' holds weights, not a solver state: expected iter and history as in a .solverstate; start from "
        "weights with -weights (Net.copy_from), or resume from the .solverstate that was written with them"
    )


def _checked(state: StoredState, path: str) -> StoredState:
    for name, value in (("iter", state.iter), ("current_step", state.current_step)):
        if not 0 <= value <= LARGEST_ITERATION:
            raise SnapshotError(f"'{path}': {name} must be from 0 to {LARGEST_ITERATION}, got {value}")
    return state


def _check_history(solver, counts: Sequence[int], path: str) -> None:
    """Raise SnapshotError unless the solver's history has as many blobs, of these numbers of values."""
    if solver is None:
        return
    if len(counts) != len(solver.history):
        raise SnapshotError(
            f"'{path}': incorrect length of history blobs: expected {len(solver.history)} for this net and the solver "
            f"type {solver.type}, got {len(counts)} (is it a .solverstate of this net?)"
        )
    for i, (blob, count) in enumerate(zip(solver.history, counts)):
        if count != blob.count:
            raise SnapshotError(
                f"'{path}': history {i}: expected {blob.count} values of shape {blob.shape}, got {count}"
            )


# -- binary ------------------------------------------------------------------------------------------------------------


def _read_binary(path: str, solver) -> StoredState:
    state, content = caffe_pb2.SolverState(), read_bytes(path)
    try:
        state.ParseFromString(content)
    except DecodeError:
        state.ClearField("iter")
    if not state.HasField("iter"):
        kind = text_kind(content)
        found = f"the prototxt of a {kind}, expected a .solverstate" if kind else "truncated, or no .solverstate"
        raise SnapshotError(f"'{path}' is {found}")
    values = [blob.double_data or blob.data for blob in state.history]
    _check_history(solver, [len(each) for each in values], path)
    texts = [os.fsdecode(each) for each in (state.learned_net, state.weights_sha256, state.run_state_sha256)]
    return StoredState(state.iter, state.current_step, texts[0], [np.array(each) for each in values], *texts[1:])


# -- HDF5 --------------------------------------------------------------------------------------------------------------


def _read_hdf5(file: Hdf5File, solver) -> StoredState:
    if not isinstance(file.find("iter"), Dataset) or file.find("history") != "group":
        raise SnapshotError(f"'{file.path}': expected iter and history as in a .solverstate.h5, got {file.names()}")
    members = file.members("history")
    history = [members.get(str(i)) for i in range(len(members))]
    datasets = [each for each in history if isinstance(each, Dataset)]
    if len(datasets) < len(history):
        raise SnapshotError(f"'{file.path}': history must have the datasets 0 to {len(history) - 1}")
    _check_history(solver, [each.count for each in datasets], file.path)
    learned_net = file.find("learned_net")
    return StoredState(
        _whole(file, "iter"),
        _whole(file, "current_step"),
        file.text(learned_net) if isinstance(learned_net, Dataset) else "",
        [file.numbers(each) for each in datasets],
        file.attribute("weights_sha256"),
        file.attribute("run_state_sha256"),
    )


def _whole(file: Hdf5File, name: str) -> int:
    """Return the whole number in a dataset of one; 0 if there is no dataset of this name."""
    found = file.find(name)
    if not isinstance(found, Dataset):
        return 0
    if found.count != 1 or found.dtype.kind not in "iu":
        raise file.error(found, f"must be one whole number, got {found.dtype} of shape {found.shape}")
    return int(file.numbers(found).item())
