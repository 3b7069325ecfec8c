"""Which nets a SolverParameter asks for: one to train, any number to test, each with its state."""

from __future__ import annotations

import os

from minicaffe.errors import SolverError
from minicaffe.proto import caffe_pb2, read_net

_TRAIN_FIELDS = ("net", "net_param", "train_net", "train_net_param")


def train_net_param(param, folder: str = ""):
    """The NetParameter of the train net, its state set; exactly one of the four fields must name it.

    Files are looked for as given, then beside the solver (`folder`).
    """
    given = [name for name in _TRAIN_FIELDS if param.HasField(name)]
    if len(given) != 1:
        got = ", ".join(given) or "none"
        raise SolverError(f"a solver must specify a train net by exactly one of {', '.join(_TRAIN_FIELDS)}: got {got}")
    return _with_state(_read(getattr(param, given[0]), folder), caffe_pb2.TRAIN, param.train_state)


def test_net_params(param, folder: str = "") -> list:
    """The NetParameters of the test nets, their states set: one for each test_iter.

    First those of `test_net_param` and `test_net`; what test_iters are left go to the net of `net` or `net_param`.
    """
    special = [*param.test_net_param, *param.test_net]
    generic = [getattr(param, name) for name in ("net_param", "net") if param.HasField(name)]
    count = len(param.test_iter)
    if (generic and count < len(special)) or (not generic and count != len(special)):
        raise SolverError(f"test_iter must be given for each test net: {len(special)} test net(s), got {count}")
    nets = special + generic * (count - len(special))
    if param.test_state and len(param.test_state) != len(nets):
        raise SolverError(
            f"test_state must be given once per test net or not at all: {len(nets)} net(s), got {len(param.test_state)}"
        )
    if nets and param.test_interval <= 0:
        raise SolverError(f"test nets need a test_interval above 0, got {param.test_interval}")
    states = list(param.test_state) or [None] * len(nets)
    return [_with_state(_read(net, folder), caffe_pb2.TEST, state) for net, state in zip(nets, states)]


def initial_weights(param, folder: str = "") -> list[str]:
    """The files of weights to start from: those of the `weights` fields, each one path or several between commas."""
    return [beside(path.strip(), folder) for field in param.weights for path in field.split(",") if path.strip()]


def _read(net, folder: str):
    """A NetParameter from a path or a message."""
    if not isinstance(net, str):
        copy = caffe_pb2.NetParameter()
        copy.CopyFrom(net)
        return copy
    return read_net(beside(net, folder))


def beside(path: str, folder: str) -> str:
    """The path as given, or else beside the solver."""
    there = os.path.join(folder, path)
    return there if not os.path.exists(path) and os.path.exists(there) else path


def _with_state(net, phase: int, state):
    """Precedence: the phase, then the net's own state, then what the solver adds (stages append)."""
    merged = caffe_pb2.NetState(phase=phase)
    merged.MergeFrom(net.state)
    if state is not None:
        merged.MergeFrom(state)
    net.state.CopyFrom(merged)
    return net
