"""Detection of weights and solver states by their content, for error messages when one is given for the other."""

from __future__ import annotations

import h5py
from google.protobuf.message import DecodeError, Message

from minicaffe.proto import caffe_pb2

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_ITER = b"\x08"  #: first byte of a binary SolverState: field 1, an integer; field 1 of a NetParameter is a string


def is_hdf5(path: str) -> bool:
    """Whether a file is HDF5, by its first bytes or the extension .h5; raises OSError if it cannot be opened.

    The extension is sufficient so that a damaged file is reported as damaged HDF5.
    """
    return _begins(path, _HDF5_SIGNATURE) or path.endswith(".h5")


def is_solver_state(path: str) -> bool:
    """Whether a file is a .solverstate or .solverstate.h5; raises OSError if it cannot be opened."""
    if is_hdf5(path):
        return _hdf5_root(path).get("history") is h5py.Group
    state = caffe_pb2.SolverState()
    return _begins(path, _ITER) and _parses(path, state) and state.HasField("iter")


def is_weights(path: str) -> bool:
    """Whether a file is a .caffemodel or .caffemodel.h5; raises OSError if it cannot be opened."""
    if is_hdf5(path):
        return _hdf5_root(path).get("data") is h5py.Group
    net = caffe_pb2.NetParameter()
    return not _begins(path, _ITER) and _parses(path, net) and bool(net.layer or net.layers)


def _begins(path: str, start: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(start)) == start


def _parses(path: str, message: Message) -> bool:
    try:
        with open(path, "rb") as file:
            message.ParseFromString(file.read())
    except DecodeError:
        return False
    return True


def _hdf5_root(path: str) -> dict[str, type | None]:
    """Return {name: h5py.Group or h5py.Dataset} of the root of an HDF5 file; {} if it cannot be read."""
    try:
        with h5py.File(path, "r") as file:
            return {name: file.get(name, getclass=True) for name in file}
    except OSError:
        return {}
