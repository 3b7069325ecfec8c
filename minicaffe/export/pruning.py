"""Removal of layers that compute nothing in TEST: Dropout, Split, Silence and what only a Silence reads."""

from __future__ import annotations

from minicaffe.export.layer_graph import LayerGraph, Node


def prune(graph: LayerGraph) -> tuple[list[Node], dict[Node, str]]:
    """Remove such layers from a graph; the names of its outputs are kept.

    Returns the layers removed, and those that stay, each with the reason: a clause that follows the layer's name.
    """
    before, kept = list(graph.nodes), {}
    for node in before:
        if node.passes_through and not any(node.message.loss_weight) and (why := _pass(graph, node)):
            kept[node] = why
    for node in before:
        if node.message.type == "Silence" and (why := _remove_silence(graph, node)):
            kept[node] = why
    left = set(graph.nodes)
    return [node for node in before if node not in left], kept


def _pass(graph: LayerGraph, node: Node) -> str:
    """Remove a layer that passes its bottom through; return why that cannot be, if so.

    A top that is an output gives its name to the bottom, and to what layers that work in place make the bottom of.
    """
    (source,) = node.bottoms
    for top in node.tops:
        if top in graph.outputs and top.name != source.name:
            named = [value for each in graph.nodes for value in each.tops if value.name == source.name]
            if len(node.tops) > 1 or named[0].producer.is_source or len(graph.readers(source)) > 1:
                return f"its top '{top.name}' is an output"
            for value in named:
                value.name = top.name
    for top in node.tops:
        graph.replace(top, source)
    graph.nodes.remove(node)
    return ""


def _remove_silence(graph: LayerGraph, node: Node) -> str:
    """Remove a Silence and the layers that only it reads; return why that cannot be, if so."""
    needless, pending = {node}, list(node.bottoms)
    while pending:
        value = pending.pop()
        producer = value.producer
        if producer in needless or not needless.issuperset(graph.readers(value)):
            continue
        others = [top for top in producer.tops if top is not value]
        if producer.is_source or producer.message.type == "Python" or any(
            top in graph.outputs or not needless.issuperset(graph.readers(top)) for top in others
        ):  # fmt: skip
            return f"without it '{value.name}' would be an output"
        needless.add(producer)
        pending += producer.bottoms
    graph.nodes = [each for each in graph.nodes if each not in needless]
    return ""
