"""What checks look at: a solver with its nets in both phases, before anything is built."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

from minicaffe.core.flow import Flow
from minicaffe.core.passes import filter_net
from minicaffe.proto import caffe_pb2
from minicaffe.solvers import nets


class PhaseNet:
    """The layers of a net in one phase.

    param: an upgraded NetParameter with its NetState; the attribute `param` has the layers of this state only.
    """

    def __init__(self, param: caffe_pb2.NetParameter) -> None:
        self.param = filter_net(param)
        self.phase = caffe_pb2.Phase.Name(param.state.phase)

    @functools.cached_property
    def flow(self) -> Flow:
        """Which layer reads which value."""
        return Flow(self.param)


class Subject:
    """A solver and its nets.

    solver: path of a solver prototxt, or a SolverParameter.
    weights: paths of weights to start from; those of the solver's own `weights` are in `param`.

    param: the SolverParameter.  train: the PhaseNet of the train net.  tests: those of the test nets.
    Raises what `SolverNets` raises.
    """

    def __init__(self, solver: str | os.PathLike | Any, weights: Sequence[str] = ()) -> None:
        source = nets.load(solver)
        self.source = source
        self.param = source.param
        self.weights = [*weights] or nets.initial_weights(self.param)
        found = nets.SolverNets(source)
        self.train = PhaseNet(found.train)
        self.tests = [PhaseNet(net) for net in found.tests]
