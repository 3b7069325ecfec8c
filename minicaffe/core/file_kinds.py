"""Detection of weights, solver states and blobs by their content, for error messages when one is given for another."""

from __future__ import annotations

from google.protobuf.message import DecodeError, Message

from minicaffe.files import open_regular
from minicaffe.hdf5_file import Hdf5File
from minicaffe.proto import caffe_pb2
from minicaffe.proto.reading import HDF5_SIGNATURE

_INTEGER = b"\x08"  #: first byte of a binary SolverState or an old BlobProto: field 1, in a NetParameter a string
_BLOB = (_INTEGER, b"\x2a", b"\x3a", b"\x4a")  #: first bytes of a BlobProto: num, data, shape or double_data


def is_hdf5(path: str) -> bool:
    """Whether a file is HDF5, by its first bytes or the extension .h5.

    The extension is sufficient so that a damaged file is reported as damaged HDF5.
    OSError if it cannot be opened, or is no regular file.
    """
    return _begins(path, HDF5_SIGNATURE) or path.endswith(".h5")


def is_solver_state(file: str | Hdf5File) -> bool:
    """Whether the path is that of a .solverstate, or the HDF5 file a .solverstate.h5; OSError as for `is_hdf5`."""
    if isinstance(file, Hdf5File):
        return file.find("history") == "group"
    state = caffe_pb2.SolverState()
    return _begins(file, _INTEGER) and _parses(file, state) and state.HasField("iter") and not is_blob(file)


def is_blob(path: str) -> bool:
    """Whether a file is a BlobProto, such as a mean image (.binaryproto); OSError as for `is_hdf5`."""
    blob = caffe_pb2.BlobProto()
    if not any(_begins(path, start) for start in _BLOB) or not _parses(path, blob):
        return False
    return (blob.HasField("shape") or blob.HasField("num")) and bool(blob.data or blob.double_data)


def is_weights(file: str | Hdf5File) -> bool:
    """Whether the path is that of a .caffemodel, or the HDF5 file a .caffemodel.h5; OSError as for `is_hdf5`."""
    if isinstance(file, Hdf5File):
        return file.find("data") == "group"
    net = caffe_pb2.NetParameter()
    return not _begins(file, _INTEGER) and _parses(file, net) and bool(net.layer or net.layers)


def _begins(path: str, start: bytes) -> bool:
    with open_regular(path) as file:
        return file.read(len(start)) == start


def _parses(path: str, message: Message) -> bool:
    try:
        with open_regular(path) as file:
            message.ParseFromString(file.read())
    except DecodeError:
        return False
    return True
