"""Folding of BatchNorm, Scale and Bias into the weights of the products beside them."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minicaffe import files
from minicaffe.core import weights
from minicaffe.core.calls import own_message
from minicaffe.core.net import Net
from minicaffe.errors import ExportError, SnapshotError, listed
from minicaffe.export.comparison import LIMIT, Difference, compare
from minicaffe.export.folding import (
    Affine,
    Stays,
    affine_of,
    check_product,
    is_product,
    statistics_are_empty,
    with_affine_before,
    with_affine_behind,
)
from minicaffe.export.layer_graph import LayerGraph, Node
from minicaffe.export.pruning import prune
from minicaffe.proto import TEST, format_text
from minicaffe.proto.caffe_pb2 import LayerParameter, NetParameter

log = logging.getLogger("minicaffe")


class Fold(NamedTuple):
    """A layer that is part of another one now."""

    type: str
    name: str
    into_type: str
    into: str


@dataclass
class Folded:
    """A net in TEST with fewer layers that computes the same outputs.

    net: with its weights.  param: its NetParameter, without weights and Splits.
    before, after: the numbers of layers; `before` without the Splits that were removed.
    folded: in the order of the layers.  dropped: titles of layers that compute nothing in TEST, such as "Dropout 'd'".
    kept: by title of a layer of a foldable type, why it stays.
    difference: how much an output differs on a random batch.
    """

    net: Net
    param: NetParameter
    before: int
    after: int
    folded: list[Fold]
    dropped: list[str]
    kept: dict[str, str]
    difference: Difference

    def save(self, prototxt: str | os.PathLike, weights_path: str | os.PathLike, hdf5: bool = False) -> None:
        """Write both files; if one cannot be written, neither is.

        hdf5: whether the weights are written as .caffemodel.h5 (default: .caffemodel).
        Raises SnapshotError.
        """
        content = weights.to_hdf5(self.net) if hdf5 else weights.to_binary(self.net)
        for path in (prototxt, weights_path):
            try:
                files.check_writable(path)
            except OSError as error:
                raise SnapshotError(f"cannot write '{os.fspath(path)}': {error.strerror}") from None
        with files.replacing(prototxt, SnapshotError) as text, files.replacing(weights_path, SnapshotError) as binary:
            for path, data in ((text, format_text(self.param).encode()), (binary, content)):
                with open(path, "wb") as file:
                    file.write(data)


def fold(net: Net, limit: float = LIMIT) -> Folded:
    """Return a net in TEST with its BatchNorm, Scale and Bias layers folded into weights, verified on a random batch.

    net: a Net in TEST with its weights; it is not changed, but its data layers read a batch.
    limit: the largest difference allowed, relative to the largest value of an output (default 1e-6); ten times as much
        is allowed for the rounding of the weights to float32.

    BatchNorms with global statistics, Scales, Biases and Powers of power 1 are folded into the Convolution,
    Deconvolution or InnerProduct before or behind them, others that follow one another into one Scale.  Dropout,
    Silence and Split layers are removed.  Weights are computed in float64 and stored in float32.  A folded layer's top
    has the name that the top of the last layer folded into it had, so that all outputs keep their names.
    Raises ExportError for a net in TRAIN, and if an output differs by more than the limit.
    """
    if net.phase != TEST:
        raise ExportError(f"net '{net.name}' is in TRAIN: only what a net computes in TEST can be folded")
    original, graph = LayerGraph.of(net), LayerGraph.of(net)
    removed, kept = prune(graph)
    dropped = [node.title for node in removed if node.message.type != "Split"]
    folding = _Folding(graph)
    folded = folding.run()
    kept |= folding.kept
    difference = compare(net, original, graph, limit)
    param = graph.param()
    folded_net = Net(param, phase=TEST)
    graph.fill(folded_net)
    param.ClearField("state")  # all layers are of this state
    return Folded(
        net=folded_net,
        param=param,
        before=len(original.nodes) - (len(removed) - len(dropped)),
        after=len(graph.nodes),
        folded=folded,
        dropped=dropped,
        kept={node.title: kept[node] for node in graph.nodes if node in kept},
        difference=difference,
    )


class _Folding:
    """The passes over a graph.

    affines: what layers compute that are affine and still there.  kept: why layers stay.
    """

    def __init__(self, graph: LayerGraph) -> None:
        self.graph = graph
        self.affines: dict[Node, Affine] = {}
        self.kept: dict[Node, str] = {}
        self._found: list[tuple[str, str, Node]] = []  # type and name of all affine layers
        self._absorbed: dict[Node, Node] = {}  # nodes that are removed, and those that compute what they did
        names = Counter(param.name for node in graph.nodes for param in node.message.param if param.name)
        self._shared = {name for name, count in names.items() if count > 1}

    def run(self) -> list[Fold]:
        """Fold each affine layer into what is before it, then those that are left into products behind them."""
        for node in list(self.graph.nodes):
            self._attempt(self._find, node)
            if node in self.affines:
                self._attempt(self._fold_behind, node)
        for node in list(self.affines):
            self._attempt(self._fold_before, node)
        final = ((kind, name, self._final(node)) for kind, name, node in self._found)
        return [Fold(kind, name, into.type, into.name) for kind, name, into in final if into.name != name]

    def _attempt(self, step: Callable[[Node], None], node: Node) -> None:
        try:
            step(node)
        except Stays as why:
            self.kept[node] = str(why)

    def _find(self, node: Node) -> None:
        affine = affine_of(node.layer, node.blobs)
        if affine is None:
            return
        if any(node.message.loss_weight):
            raise Stays("its top is a loss")
        if statistics_are_empty(node.layer, node.blobs):
            log.warning("%s: its factor is 0, as all its statistics: it computes x / sqrt(eps)", node.title)
        self.affines[node] = affine
        self._found.append((node.message.type, node.message.name, node))

    def _fold_behind(self, node: Node) -> None:
        """Fold a layer into the product before it, or make one Scale of it and the affine layer before it."""
        (value,) = node.bottoms
        before = value.producer
        if not is_product(before.layer) and before not in self.affines:
            raise Stays(f"it follows {before.title}, which has no weights to take it up")
        others = [reader.title for reader in self.graph.readers(value) if reader is not node]
        if others:
            raise Stays(f"its bottom '{value.name}', the top of {before.title}, is read by {listed(others)} as well")
        if any(before.message.loss_weight):
            raise Stays(f"its bottom '{value.name}' is a loss")
        if before in self.affines:
            self._merge(before, node)
            return
        self._check_weights(before)
        before.blobs = with_affine_behind(before.layer, before.blobs, self.affines.pop(node))
        _complete_bias(before)
        self._absorbed[node] = before
        self.graph.give_tops(node, before)

    def _merge(self, first: Node, second: Node) -> None:
        """Make `first` a Scale that computes both layers, with the name of the last Scale among them."""
        self.affines[first] = self.affines[first].then(self.affines.pop(second))
        self._absorbed[second] = first
        if second.message.type == "Scale":
            first.message = second.message
        _make_scale(first, self.affines[first])
        self.graph.give_tops(second, first)

    def _fold_before(self, node: Node) -> None:
        """Fold a layer into the product behind it, if that is all that reads its top."""
        (top,), (bottom,) = node.tops, node.bottoms
        readers = self.graph.readers(top)
        if len(readers) != 1 or not is_product(readers[0].layer):
            return
        behind = readers[0]
        try:
            self._check_weights(behind)
            behind.blobs = with_affine_before(behind.layer, behind.blobs, self.affines[node], bottom.shape)
        except Stays as why:
            raise Stays(f"{self.kept[node]}; {why}") from None
        del self.affines[node], self.kept[node]
        _complete_bias(behind)
        self._absorbed[node] = behind
        self.graph.replace(top, bottom)
        self.graph.nodes.remove(node)

    def _check_weights(self, product: Node) -> None:
        check_product(product.layer)
        for param in product.message.param:
            if param.name in self._shared:
                raise Stays(f"{product.title} shares its parameter '{param.name}' with another layer")

    def _final(self, node: Node) -> LayerParameter:
        """The message of the layer that computes, after all passes, what a node does."""
        while node in self._absorbed:
            node = self._absorbed[node]
        return node.message


def _complete_bias(node: Node) -> None:
    """Set the bias_term of a product or a Scale; a bias that is new gets the multipliers of the weights."""
    field = own_message(node.message.type)
    assert field is not None
    param = getattr(node.message, field)
    param.bias_term = len(node.blobs) > 1
    specs = node.message.param
    if param.bias_term and len(specs) == 1:
        specs.add().CopyFrom(specs[0])
        specs[1].ClearField("name")


def _make_scale(node: Node, affine: Affine) -> None:
    """Make a node a Scale with these numbers."""
    message, number = node.message, affine.is_number
    if message.type != "Scale":
        message.CopyFrom(LayerParameter(name=message.name, type="Scale"))
    for spec in message.param:
        spec.ClearField("name")  # these numbers are not those of other layers
    param = message.scale_param
    param.axis, param.num_axes = (0, 0) if number else (1, 1)
    factor, term = np.broadcast_arrays(*affine)
    node.blobs = [factor, term] if term.any() else [factor]
    _complete_bias(node)
