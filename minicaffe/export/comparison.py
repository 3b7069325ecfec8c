"""Comparison of two graphs of layers that were made from one net, by their outputs on a random batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.net import Net
from minicaffe.core.settings import restored, set_engine, set_mode_cpu
from minicaffe.errors import ExportError
from minicaffe.export.layer_graph import LayerGraph, Value
from minicaffe.philox import Stream
from minicaffe.proto import TEST

LIMIT = 1e-6  #: the largest difference, relative to the largest value of an output
_ROUNDING = 10  #: times the limit are allowed for weights in float32: small values behind large ones amplify rounding


class Difference(NamedTuple):
    """The largest difference of an output from the original's, relative to the output's largest value.

    exact: with the weights in float64, as they were computed.  stored: with the weights in float32, as they are stored.
    """

    exact: float
    stored: float


def compare(net: Net, original: LayerGraph, changed: LayerGraph, limit: float = LIMIT) -> Difference:
    """Return how much the outputs of two graphs differ on a batch.

    net: the net from which both were made; its data layers read a batch, Input layers get random numbers.
    limit: for the weights in float64; ten times as much is allowed for those in float32.

    The graphs are run by the numpy engine, with activations in float64, so that their rounding is no part of the
    difference.  Compared are the outputs and the bottoms of the layers that compute them, for a Softmax can hide a
    difference of the scores, and what layers without tops read.
    Raises ExportError if a value is not finite, or a difference above the limit.
    """
    batch = _batch(net, changed)
    names, changed_names = _results(original, changed)
    expected = _run(original, batch, names)
    for name, value in zip(names, expected):
        if not np.isfinite(value).all():
            raise ExportError(f"'{name}' is not finite on a random batch: a folded net cannot be compared with the net")
    found = []
    for dtype, most, which in ((np.float64, limit, ""), (np.float32, _ROUNDING * limit, ", its weights in float32,")):
        differences = map(_difference, expected, _run(changed, batch, changed_names, dtype))
        name, worst = max(zip(names, differences), key=lambda pair: pair[1], default=("", 0.0))
        if not worst <= most:
            raise ExportError(
                f"'{name}' of the folded net{which} differs by {worst:.2g} of its largest value on a random batch, "
                f"the limit is {most:.2g}"
            )
        found.append(worst)
    return Difference(*found)


def _difference(expected: np.ndarray, found: np.ndarray) -> float:
    """The largest difference relative to the largest expected value; infinite where it is not a number."""
    worst = float(np.abs(expected - found).max(initial=0)) / (float(np.abs(expected).max(initial=0)) or 1.0)
    return np.inf if np.isnan(worst) else worst


def _results(original: LayerGraph, changed: LayerGraph) -> tuple[list[str], list[str]]:
    """The names of what is compared, in each of the graphs."""
    ends, others = _ends(original), _ends(changed)
    outputs = sorted(value.name for value in original.outputs)
    bottoms = (pair for layer in ends if layer in others for pair in zip(ends[layer], others[layer]))
    shown = _shown(original) | _shown(changed)
    pairs = [pair for pair in bottoms if shown.issuperset(pair) and _place(pair[0]) == _place(pair[1])]
    return outputs + [one.name for one, _ in pairs], outputs + [other.name for _, other in pairs]


def _ends(graph: LayerGraph) -> dict[Layer, list[Value]]:
    """The bottoms of layers that have no tops or compute an output."""
    nodes = [node for node in graph.nodes if not node.tops or any(top in graph.outputs for top in node.tops)]
    return {node.layer: node.bottoms for node in nodes if node.message.type != "Silence"}


def _shown(graph: LayerGraph) -> set[Value]:
    """The values that blobs have after a pass: those that no layer in place overwrites."""
    return set({value.name: value for node in graph.nodes for value in node.tops}.values())


def _place(value: Value) -> tuple[int, int]:
    """Where a value is first written, by a layer that computes something."""
    while value.producer.passes_through:
        (value,) = value.producer.bottoms
    return value.place


# -- the batch ---------------------------------------------------------------------------------------------------------


def _batch(net: Net, graph: LayerGraph) -> dict[str, np.ndarray]:
    """Values for the tops of all inputs and data layers, by name."""
    rng = np.random.default_rng(0)
    batch: dict[str, np.ndarray] = {}
    for node, tops in ((node, net.tops[net.layers.index(node.layer)]) for node in graph.nodes if node.is_source):
        given = node.layer.tops_are_inputs or node.message.type == "MemoryData"  # by a script
        if not given:
            node.layer.forward([], tops)
        for value, blob in zip(node.tops, tops):
            batch[value.name] = _random(graph, value, rng) if given else blob.read_data().astype(np.float64)
    return batch


def _random(graph: LayerGraph, value: Value, rng: np.random.Generator) -> np.ndarray:
    """Random numbers; zeros where a layer reads labels, indices or regions, which have no gradient."""
    numbers = all(node.layer.allow_force_backward(i) and node.message.type != "Embed" for node, i in graph.uses(value))
    return rng.standard_normal(value.shape) if numbers else np.zeros(value.shape)


# -- runs --------------------------------------------------------------------------------------------------------------


def _run(
    graph: LayerGraph, batch: dict[str, np.ndarray], names: list[str], dtype: Any = np.float32
) -> list[np.ndarray]:
    """Run a graph, without its data layers and its layers without tops, on a batch; return copies of blobs.

    dtype: that to which the weights are rounded.
    """
    nodes = [node.as_input() if node.is_source else node for node in graph.nodes if node.tops]
    closed = LayerGraph(graph.head, nodes, graph.outputs)
    with restored():
        set_mode_cpu()
        set_engine("CAFFE")
        net: Any = Net(closed.param(), phase=TEST, dtype=np.float64)
        closed.fill(net, dtype)
        for node, layer in closed.pairs(net):
            layer.rng = Stream(0, node.index)  # a Dropout that drops in TEST, too, drops the same in both graphs
        for name, values in batch.items():
            net.blobs[name].data = values
        net.run_forward()
        return [net.blobs[name].read_data().copy() for name in names]
