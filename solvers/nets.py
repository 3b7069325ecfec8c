"""Which files and nets a SolverParameter names: one net to train, any number to test, weights to start from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from minicaffe.errors import SolverError
from minicaffe.proto import TEST, TRAIN, caffe_pb2, read_net, read_solver, upgrade_net

_TRAIN_FIELDS = ("net", "net_param", "train_net", "train_net_param")


class Source(NamedTuple):
    """A SolverParameter, and whether the nets inside it are in today's form, as those of a file that was read."""

    param: Any
    upgraded: bool


def load(param: str | os.PathLike | Any) -> Source:
    """The Source in a solver prototxt, or of a SolverParameter; a Source is returned as it is.

    Nets and weights that a file names are looked for as given, then beside that file.
    """
    if isinstance(param, Source):
        return param
    if isinstance(param, caffe_pb2.SolverParameter):
        return Source(param, upgraded=False)
    path = os.fspath(param)
    param, folder = read_solver(path), os.path.dirname(path)
    for field in ("net", "train_net"):
        if param.HasField(field):
            setattr(param, field, _beside(getattr(param, field), folder))
    param.test_net[:] = [_beside(net, folder) for net in param.test_net]
    param.weights[:] = [_beside(weights, folder) for weights in initial_weights(param)]
    return Source(param, upgraded=True)


def initial_weights(param) -> list[str]:
    """The files of weights to start from: those of the `weights` fields, each one path or several between commas."""
    return [path.strip() for field in param.weights for path in field.split(",") if path.strip()]


def _beside(path: str, folder: str) -> str:
    there = os.path.join(folder, path)
    return there if not os.path.exists(path) and os.path.exists(there) else path


# -- nets --------------------------------------------------------------------------------------------------------------


class SolverNets:
    """The NetParameters that a Source names, upgraded, their states set; each file is read and each net upgraded once.

    train: that of the train net, which exactly one of four fields must name.
    tests: those of the test nets, one for each test_iter: first those of `test_net_param` and `test_net`; what
    test_iters are left go to the net of `net` or `net_param`.
    """

    def __init__(self, source: Source) -> None:
        self._param, self._upgraded = source
        self._known: dict[str, Any] = {}
        self.train = self._with_state(self._train_field(), TRAIN, self._param.train_state)
        self.tests = list(self._test_nets())

    def _train_field(self) -> str:
        given = [name for name in _TRAIN_FIELDS if self._param.HasField(name)]
        if len(given) != 1:
            fields, got = ", ".join(_TRAIN_FIELDS), ", ".join(given) or "none"
            raise SolverError(f"a solver must specify a train net by exactly one of {fields}: got {got}")
        return given[0]

    def _test_nets(self) -> Iterator[Any]:
        param = self._param
        special = [(name, i) for name in ("test_net_param", "test_net") for i in range(len(getattr(param, name)))]
        generic = [(name, None) for name in ("net_param", "net") if param.HasField(name)]
        count = len(param.test_iter)
        if (generic and count < len(special)) or (not generic and count != len(special)):
            raise SolverError(f"test_iter must be given for each test net: {len(special)} test net(s), got {count}")
        if param.test_state and len(param.test_state) != count:
            raise SolverError(
                f"test_state must be given once per test net or not at all: {count} net(s), got {len(param.test_state)}"
            )
        if count and param.test_interval <= 0:
            raise SolverError(f"test nets need a test_interval above 0, got {param.test_interval}")
        states = list(param.test_state) or [None] * count
        for (name, index), state in zip(special + generic * (count - len(special)), states):
            yield self._with_state(name, TEST, state, index)

    def _with_state(self, field: str, phase: int, state, index: int | None = None):
        """A copy of a field's net.

        Precedence of its state: the phase, then the net's own state, then what the solver adds (stages append).
        """
        net = caffe_pb2.NetParameter()
        net.CopyFrom(self._net(field, index))
        merged = caffe_pb2.NetState(phase=phase)
        merged.MergeFrom(net.state)
        if state is not None:
            merged.MergeFrom(state)
        net.state.CopyFrom(merged)
        return net

    def _net(self, field: str, index: int | None):
        """The upgraded net of a field, which holds a path or the net itself."""
        value = getattr(self._param, field)
        if index is not None:
            value, field = value[index], f"{field} {index}"
        key = value if isinstance(value, str) else field
        if key not in self._known:
            self._known[key] = read_net(value) if isinstance(value, str) else self._own(value, field)
        return self._known[key]

    def _own(self, net, field: str):
        if self._upgraded:
            return net
        copy = caffe_pb2.NetParameter()
        copy.CopyFrom(net)
        return upgrade_net(copy, field)
