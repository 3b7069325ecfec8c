"""The nets and initial weights of a SolverParameter: one train net, any number of test nets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from minicaffe.errors import SolverError
from minicaffe.files import read_bytes
from minicaffe.proto import TEST, TRAIN, caffe_pb2, read_net, read_solver, upgrade_net
from minicaffe.proto.reading import text_kind

_TRAIN_FIELDS = ("net", "net_param", "train_net", "train_net_param")


class Source(NamedTuple):
    """A SolverParameter, and whether the NetParameters inside it have been upgraded to the current format."""

    param: Any
    upgraded: bool  #: True for the SolverParameter of a file, which is upgraded when it is read
    known: dict[str, Any]  #: its nets that have been read and upgraded, by path or field


def is_solver(path: str | os.PathLike) -> bool:
    """Whether a file can be read and has the fields of a solver."""
    try:
        content = read_bytes(path)
    except OSError:
        return False
    return text_kind(content) == "solver"


def load(param: str | os.PathLike | Any) -> Source:
    """Return the Source for a solver prototxt (a path) or a SolverParameter; a Source is returned unchanged.

    Relative paths of nets and weights in a prototxt refer to the working directory, or, if there is no such file, to
    the folder of the prototxt.
    Raises PrototxtError if the file cannot be read or parsed.
    """
    if isinstance(param, Source):
        return param
    if isinstance(param, caffe_pb2.SolverParameter):
        return Source(param, upgraded=False, known={})
    path = os.fspath(param)
    param, folder = read_solver(path), os.path.dirname(path)
    for field in ("net", "train_net"):
        if param.HasField(field):
            setattr(param, field, beside(getattr(param, field), folder))
    param.test_net[:] = [beside(net, folder) for net in param.test_net]
    param.weights[:] = [beside(weights, folder) for weights in initial_weights(param)]
    return Source(param, upgraded=True, known={})


def initial_weights(param) -> list[str]:
    """Return the paths of the initial weights: the `weights` fields, each one path or several separated by commas."""
    return [path.strip() for field in param.weights for path in field.split(",") if path.strip()]


def beside(path: str, folder: str) -> str:
    """Return the path of a file that a solver in `folder` names: beside the solver, if it is not found from here."""
    there = os.path.join(folder, path)
    return there if not os.path.exists(path) and os.path.exists(there) else path


# -- nets --------------------------------------------------------------------------------------------------------------


class SolverNets:
    """The NetParameters of a Source, upgraded and with their NetState set.

    Each net is read and upgraded once, also for several SolverNets of a Source.

    train: the train net, given by exactly one of `net`, `net_param`, `train_net` and `train_net_param`.
    tests: the test nets, one per `test_iter`: first those of `test_net_param`, then those of `test_net`; the remaining
        `test_iter` entries use the net of `net_param` or `net`.
    Raises SolverError if the numbers of nets, `test_iter` and `test_state` do not agree, or without a `test_interval`.
    """

    def __init__(self, source: Source) -> None:
        self._param, self._upgraded, self._known = source
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
        special: list[tuple[str, int | None]] = [
            (name, i) for name in ("test_net_param", "test_net") for i in range(len(getattr(param, name)))
        ]
        generic: list[tuple[str, int | None]] = [(name, None) for name in ("net_param", "net") if param.HasField(name)]
        count = len(param.test_iter)
        if (generic and count < len(special)) or (not generic and count != len(special)):
            raise SolverError(f"test_iter must be given for each test net: {len(special)} test net(s), got {count}")
        if param.test_state and len(param.test_state) != count:
            raise SolverError(
                f"test_state must be given once for each test_iter or not at all: test_iter has {count} value(s), "
                f"test_state {len(param.test_state)}"
            )
        if count and param.test_interval <= 0:
            raise SolverError(f"test nets need a test_interval above 0, got {param.test_interval}")
        states = list(param.test_state) or [None] * count
        for (name, index), state in zip(special + generic * (count - len(special)), states):
            yield self._with_state(name, TEST, state, index)

    def _with_state(self, field: str, phase: int, state, index: int | None = None):
        """Return a copy of the net of a field, with its NetState.

        The state is merged from the phase, the net's own state and the solver's `state`, later ones taking precedence;
        stages are concatenated.
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
        """Return the upgraded net of a field, which holds a path or a NetParameter."""
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
