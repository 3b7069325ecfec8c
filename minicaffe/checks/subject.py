"""What checks look at: a solver with its nets in both phases, before anything is built."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from minicaffe.core.flow import Flow
from minicaffe.core.passes import filter_net
from minicaffe.core.stored_weights import BATCH_NORM_BLOBS, open_weights
from minicaffe.proto import TEST, caffe_pb2, read_net, upgrade_net
from minicaffe.solvers import nets


class PhaseNet:
    """The layers of a net in one phase.

    param: an upgraded NetParameter with its NetState, which is the attribute `whole`; the attribute `param` has the
        layers of this state only.
    """

    def __init__(self, param: caffe_pb2.NetParameter) -> None:
        self.whole = param
        self.param = filter_net(param)
        self.phase = caffe_pb2.Phase.Name(param.state.phase)

    @functools.cached_property
    def flow(self) -> Flow:
        """Which layer reads which value."""
        return Flow(self.param)

    def layers_with(self, has: Callable[[Any], bool]) -> Iterator[tuple[int, Any]]:
        """Yield (index, LayerParameter) of the layers for which `has` is true, in order."""
        return ((i, layer) for i, layer in enumerate(self.param.layer) if has(layer))

    def readers(self, layer: int) -> Iterator[int]:
        """Yield the indices of the layers that read what a layer computes, once for each bottom."""
        return (reader.layer for value in self.flow.values_of(layer) for reader in self.flow.readers(value))

    def of_type(self, *types: str) -> Iterator[tuple[int, Any]]:
        """Yield (index, LayerParameter) of the layers of some types, in order."""
        return self.layers_with(lambda layer: layer.type in types)


class Stored:
    """What files of weights hold, by the names of layers.

    shapes: the shapes of each layer's blobs, by index.
    untrained: the names of the BatchNorms whose factor is 0: they have seen no batch.
    Raises SnapshotError or PrototxtError as `open_weights` does.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.shapes: dict[str, dict[int, tuple[int, ...]]] = {}
        self.untrained: set[str] = set()
        for path in paths:
            with open_weights(path) as layers:
                for layer in layers:
                    if layer.blobs:
                        self.shapes[layer.name] = {i: tuple(blob.shape) for i, blob in layer.blobs.items()}
                        self._note_factor(layer)

    def _note_factor(self, layer: Any) -> None:
        factor = layer.blobs.get(BATCH_NORM_BLOBS - 1)
        if factor is not None and factor.count == 1 and not factor.values().any():
            self.untrained.add(layer.name)
        else:
            self.untrained.discard(layer.name)


class Subject:
    """A solver and its nets.

    solver: path of a solver prototxt, or a SolverParameter, or a `nets.Source`.
    weights: paths of weights to start from (default: those of the solver's own `weights`).
    deploy: the net that will be used after training: path of a prototxt, or a NetParameter; None (default): not given.
    reads_weights: whether checks may read the files of weights (default); otherwise every layer counts as filled.
    start: the iteration at which the training starts: that of a solver state (default 0).

    param: the SolverParameter.  train: the PhaseNet of the train net.  tests: those of the test nets.
    deploy: the PhaseNet of `deploy` in TEST, or None.  deploy_name: its path, or "deploy".
    Raises SolverError, PrototxtError or NetError as `SolverNets`, `read_net` and `filter_net` do.
    """

    def __init__(
        self, solver: Any, weights: Sequence[str] = (), deploy: Any = None, reads_weights: bool = True, start: int = 0
    ) -> None:
        source = nets.load(solver)
        self.source = source
        self.param = source.param
        self.weights = [*weights] or nets.initial_weights(self.param)
        self._reads_weights, self.start = reads_weights, start
        found = nets.SolverNets(source)
        self.train = PhaseNet(found.train)
        self.tests = [PhaseNet(net) for net in found.tests]
        self.deploy = None if deploy is None else PhaseNet(_in_test(deploy))
        self.deploy_name = os.fspath(deploy) if isinstance(deploy, (str, os.PathLike)) else "deploy"

    @functools.cached_property
    def stored(self) -> Stored | None:
        """What the files of weights hold; None if there are none, or if they are not to be read."""
        return Stored(self.weights) if self.weights and self._reads_weights else None

    def is_filled(self, layer_name: str) -> bool:
        """Whether the parameters of a layer of that name come from a file."""
        return bool(self.weights) and (self.stored is None or layer_name in self.stored.shapes)

    def nets(self) -> Iterator[PhaseNet]:
        """Yield the train net and the test nets."""
        yield self.train
        yield from self.tests


def _in_test(deploy: Any) -> caffe_pb2.NetParameter:
    """Return the upgraded NetParameter of a path or a NetParameter, with its state in TEST."""
    if isinstance(deploy, caffe_pb2.NetParameter):
        net = caffe_pb2.NetParameter()
        net.CopyFrom(deploy)
        net = upgrade_net(net, "deploy")
    else:
        net = read_net(deploy)
    net.state.phase = TEST
    return net
