"""A net in TEST as other programs run it: from its inputs to its outputs, without data sets, losses and scores."""

from __future__ import annotations

from collections.abc import Callable

from minicaffe.core.net import Net
from minicaffe.core.registry import facts_of
from minicaffe.errors import ExportError
from minicaffe.export.layer_graph import LayerGraph, Node
from minicaffe.export.pruning import prune
from minicaffe.proto import TEST, caffe_pb2


def deployed(net: Net, keeps: Callable[[caffe_pb2.LayerParameter], bool]) -> Net:
    """Return a net in TEST that computes the outputs of `net` from Input layers, with the same parameters.

    Data layers become Input layers with the shapes of their tops, and tops that no layer reads are left out.  Losses,
    Accuracy and HDF5Output are left out with all that reads their tops, so that the blobs they read become outputs.

    keeps: whether a layer stays, though its type is of one of these families, as Softmax does.
    Returns `net` itself if it has this form.  Raises ExportError for a net in TRAIN, and if no layer is left.
    """
    if net.phase != TEST:
        raise ExportError(f"net '{net.name}' is in TRAIN: build it with phase TEST")
    graph = LayerGraph.of(net)
    prune(graph)
    families = {node: "" if keeps(node.message) else facts_of(node.message.type).family for node in graph.nodes}
    sources = [node for node in graph.nodes if node.is_source and families[node] == "data"]
    if not _cut(graph, families) and all(_is_input(graph, node) for node in sources):
        return net
    for node in sources:
        _make_input(graph, node)
    if all(node.message.type == "Input" for node in graph.nodes):
        raise ExportError(f"net '{net.name}': there are no layers between its data and its losses")
    made = Net.of_upgraded(graph.param())
    graph.fill(made)
    return made


def _cut(graph: LayerGraph, families: dict[Node, str]) -> bool:
    """Remove losses and layers that write data, with all that reads their tops; return whether there are any."""
    cut: set[Node] = set()
    for node in graph.nodes:
        ends = not node.is_source and families[node] in ("data", "loss")
        if ends or any(value.producer in cut for value in node.bottoms):
            cut.add(node)
    graph.nodes = [node for node in graph.nodes if node not in cut]
    return bool(cut)


def _is_input(graph: LayerGraph, node: Node) -> bool:
    """Whether a data layer is an Input all of whose tops are read."""
    return node.message.type == "Input" and all(graph.readers(top) for top in node.tops)


def _make_input(graph: LayerGraph, node: Node) -> None:
    """Put an Input layer with the tops that are read in the place of a data layer."""
    node.tops = [top for top in node.tops if graph.readers(top)]
    at = graph.nodes.index(node)
    graph.nodes[at : at + 1] = [node.as_input()] if node.tops else []
