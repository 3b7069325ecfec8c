"""The schema of Caffe's files, and functions that read, upgrade and write them.

Examples:

    net = read_net("train_val.prototxt")            # files of old versions and of forks are upgraded
    weights = read_binary_net("net.caffemodel")     # the same for weights
    solver = read_solver("solver.prototxt")

TRAIN and TEST are the schema's `Phase`; everything else takes them from here.
"""

from __future__ import annotations

from minicaffe.errors import PrototxtError
from minicaffe.proto import caffe_pb2
from minicaffe.proto.caffe_pb2 import TEST, TRAIN
from minicaffe.proto.reading import (
    PathLike,
    format_text,
    parse_binary,
    parse_text,
    read_binary,
    read_text,
    read_weights,
    write_binary,
    write_text,
)
from minicaffe.proto.upgrade import needs_net_upgrade, upgrade_net, upgrade_solver

__all__ = [
    "TEST",
    "TRAIN",
    "caffe_pb2",
    "format_text",
    "needs_net_upgrade",
    "parse_binary",
    "parse_text",
    "read_binary",
    "read_binary_net",
    "read_net",
    "read_solver",
    "read_text",
    "upgrade_net",
    "upgrade_solver",
    "write_binary",
    "write_text",
]


def read_net(path: PathLike) -> caffe_pb2.NetParameter:
    """Read a net from a prototxt file and upgrade it.

    PrototxtError when the file cannot be read or has no layer, and as for `parse_text` and `upgrade_net`.
    """
    return _with_layers(upgrade_net(read_text(path, caffe_pb2.NetParameter()), path), path)


def read_binary_net(path: PathLike) -> caffe_pb2.NetParameter:
    """Read a net from a binary file (.caffemodel) and upgrade it.

    Where the parameters of its layers are a fork's and cannot be parsed here, the layers are without them.
    PrototxtError when the file cannot be read, is not a binary NetParameter or has no layer, and as for `upgrade_net`.
    """
    return _with_layers(upgrade_net(read_weights(path, caffe_pb2.NetParameter()), path), path)


def _with_layers(net: caffe_pb2.NetParameter, path: PathLike) -> caffe_pb2.NetParameter:
    if not net.layer:  # an empty file is a valid message
        raise PrototxtError(f"{path}: there is no layer in this net")
    return net


def read_solver(path: PathLike) -> caffe_pb2.SolverParameter:
    """Read a solver from a prototxt file, upgrade it and complete its snapshot_prefix.

    PrototxtError when the file cannot be read, and as for `parse_text` and `upgrade_solver`.
    """
    return upgrade_solver(read_text(path, caffe_pb2.SolverParameter()), path)
