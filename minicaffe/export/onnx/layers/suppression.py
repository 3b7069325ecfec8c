"""Non-maximum suppression of DetectionOutput's candidates."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.export.onnx.conversion import Conversion, Nodes
from minicaffe.export.onnx.graph import Graph


def suppressed(layer: Conversion, scores: str, low: str, high: str, best: int) -> str:
    """Add the scores, with -inf for candidates that are too small or overlap a better one that stays.

    scores: (M, k), the best first, of M pairs of a sample and a class.  low, high: corners of the boxes, (M, k, 2).
    best: the number k.
    """
    high = layer.op("Max", low, high)  # NonMaxSuppression exchanges corners that are turned around; the box is empty
    if layer.layer.eta < 1 and layer.layer.threshold > 0.5:
        return _with_shrinking_threshold(layer, scores, low, high, best)
    axis = layer.ints([1], "axis")
    scores = layer.op("Unsqueeze", scores, axis)
    threshold = layer.floats([min(layer.layer.threshold, 1)], "nms_threshold")  # an overlap is 1 at most
    limits = layer.ints([best], "top_k"), threshold, layer.floats([layer.layer.least], "confidence_threshold")
    chosen = layer.op("NonMaxSuppression", layer.op("Concat", low, high, axis=2), scores, *limits)
    values = layer.op("GatherND", scores, chosen)
    return layer.op("Squeeze", layer.op("ScatterND", nothing(layer, scores), chosen, values), axis)


def nothing(layer: Conversion, scores: str) -> str:
    """Add -inf in the shape of the scores."""
    return layer.op("Expand", layer.floats(-math.inf, "nothing"), layer.op("Shape", scores))


def _with_shrinking_threshold(layer: Conversion, scores: str, low: str, high: str, best: int) -> str:
    """Add a Scan over the candidates; NonMaxSuppression has a fixed threshold.

    States: the largest overlap of each candidate with a box that stays (M, k), and the threshold (M, 1).
    """
    area = layer.op("ReduceProd", layer.op("Sub", high, low), axes=[2], keepdims=0)
    worst = layer.op("ConstantOfShape", layer.op("Shape", scores))
    first = layer.op("Gather", worst, layer.ints([0], "first"), axis=1)
    threshold = layer.op("Add", first, layer.floats(layer.layer.threshold, "nms_threshold"))
    numbers = layer.ints(np.arange(best).reshape(best, 1), "numbers")
    body = _candidate(layer, best, scores, low, high, area)
    return layer.op("Transpose", layer.ops("Scan", 3, worst, threshold, numbers, body=body, num_scan_inputs=1)[2])


def _candidate(layer: Conversion, best: int, scores: str, low: str, high: str, area: str) -> Graph:
    """Return the graph of a step, which decides whether the candidate with a number stays."""
    graph = Graph(f"{layer.name}/candidate", layer.graph)
    body = Nodes(graph, layer.name)
    worst, threshold = (
        graph.input(graph.unique(f"{layer.name}/{name}"), ("M", width))
        for name, width in (("overlaps", best), ("threshold", 1))
    )
    number = graph.input(graph.unique(f"{layer.name}/number"), (1,), np.int64)
    score, own_worst = (body.op("Gather", values, number, axis=1) for values in (scores, worst))
    least, zero = body.floats(layer.layer.least, "confidence_threshold"), body.floats(0, "zero")
    stays = body.op("And", body.op("LessOrEqual", own_worst, threshold), body.op("Greater", score, least))
    worst = body.op("Max", worst, body.op("Where", stays, _overlaps(body, number, low, high, area), zero))
    shrinks = body.op("And", stays, body.op("Greater", threshold, body.floats(0.5, "half")))
    shrunk = body.op("Mul", threshold, body.floats(layer.layer.eta, "eta"))
    threshold = body.op("Where", shrinks, shrunk, threshold)
    kept = body.op("Where", stays, score, body.floats(-math.inf, "nothing"))
    graph.output(worst, ("M", best))
    graph.output(threshold, ("M", 1))
    graph.output(body.op("Squeeze", kept, body.ints([1], "axis")), ("M",))
    return graph


def _overlaps(nodes: Nodes, number: str, low: str, high: str, area: str) -> str:
    """Add the intersection over union of the box with a number and each box, (M, k)."""
    own_low, own_high, own_area = (nodes.op("Gather", values, number, axis=1) for values in (low, high, area))
    sides = nodes.op("Sub", nodes.op("Min", high, own_high), nodes.op("Max", low, own_low))
    sides = nodes.op("Max", sides, nodes.floats(0, "zero"))
    shared = nodes.op("ReduceProd", sides, axes=[2], keepdims=0)
    union = nodes.op("Sub", nodes.op("Add", own_area, area), shared)
    least = nodes.floats(np.finfo(np.float32).smallest_subnormal, "least_union")  # two empty boxes have none
    return nodes.op("Div", shared, nodes.op("Max", union, least))
