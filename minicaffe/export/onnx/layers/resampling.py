"""Pictures of another size, and pictures that are read at computed positions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minicaffe.export.onnx.common import cast, reshape
from minicaffe.export.onnx.conversion import Conversion, exports
from minicaffe.layers.shared.sampler import INSIDE, ZEROS


def resized(layer: Conversion, x: str, weights: Sequence[np.ndarray]) -> str:
    """MatMul: A x B' for each picture, A and B the weights of rows and columns."""
    rows, columns = weights
    product = layer.op("MatMul", x, layer.floats(columns.T, "columns"))
    return layer.op("MatMul", layer.floats(rows, "rows"), product)


@exports("Resample")
def resample(layer: Conversion) -> str:
    """MatMul with the weights of columns and of rows."""
    return resized(layer, layer.x, layer.layer.weights.weights)


@exports("MaskResize")
def mask_resize(layer: Conversion) -> str:
    """MatMul with the weights of columns and of rows."""
    return resized(layer, layer.x, layer.layer.map.weights)


@exports("Accum")
def accum(layer: Conversion) -> str:
    """MatMul with the weights of columns and of rows, Concat."""
    parts = [resized(layer, x, each.weights) for x, (each, _) in zip(layer.bottoms, layer.layer.parts)]
    return layer.op("Concat", *parts, axis=1)


@exports("Downsample")
def downsample(layer: Conversion) -> str:
    """IsNaN, Where; MatMul with the weights of columns and of rows, of known numbers and of their weights; Div."""
    weights, zero = layer.layer.weights.weights, layer.floats(0, "zero")
    nan = layer.op("IsNaN", layer.x)
    known = resized(layer, cast(layer, layer.op("Not", nan), np.float32), weights)
    lost = layer.op("Div", resized(layer, cast(layer, nan, np.float32), weights), known)
    y = layer.op("Div", resized(layer, layer.op("Where", nan, zero, layer.x), weights), known)
    return layer.op("Where", layer.op("Greater", lost, layer.floats(0.5, "limit")), layer.floats(math.nan, "nan"), y)


@exports("Grid")
def grid(layer: Conversion) -> str:
    """Expand of a constant to the batch."""
    height, width = layer.bottom_shapes[0][2:]
    places = np.stack(np.meshgrid(np.arange(width), np.arange(height)))
    shape = layer.op("Concat", layer.op("Shape", layer.x, end=1), layer.ints(places.shape), axis=0)
    return layer.op("Expand", layer.floats(places, "places"), shape)


@exports("FlowWarp", "Warp")
def warp(layer: Conversion) -> str:
    """Floor, Where, Clip of rows and columns; GatherElements of the four places around each, Mul by their shares, Add.

    GridSample has positions from -1 to 1, whose rounding grows with the size of the picture.
    """
    own, shape = layer.layer, layer.bottom_shapes[0]
    places = np.arange(shape[2] * shape[3])
    columns, rows = layer.ops("Split", 2, reshape(layer, layer.bottoms[1], [0, 2, -1]), axis=1)
    axes = [(rows, places // shape[3], shape[2]), (columns, places % shape[3], shape[3])]
    (row_taps, row_counts), (column_taps, column_counts) = (_taps(layer, *each) for each in axes)
    x = reshape(layer, layer.x, [0, 0, -1])
    size, y = layer.op("Shape", x), ""
    for row, of_row in row_taps:
        for column, of_column in column_taps:
            place = layer.op("Add", layer.op("Mul", row, layer.ints(shape[3], "width")), column)
            values = layer.op("GatherElements", x, layer.op("Expand", place, size), axis=2)
            term = layer.op("Mul", values, layer.op("Mul", of_row, of_column))
            y = layer.op("Add", y, term) if y else term
    if own.outside:
        y = layer.op("Where", layer.op("And", row_counts, column_counts), y, layer.floats(own.outside, "outside"))
    return reshape(layer, y, [0, 0, *shape[2:]])


def _taps(layer: Conversion, position: str, start: np.ndarray, size: int) -> tuple[list[tuple[str, str]], str]:
    """Return the two indices around positions (N, 1, places) on an axis, with their shares, and which count."""
    own, zero = layer.layer, layer.floats(0, "zero")
    if not own.absolute:
        position = layer.op("Add", position, layer.floats(start, "start"))
    low, high = (-1 if own.border == ZEROS else 0), (size - 1 if own.border == INSIDE else size)
    above = layer.op("GreaterOrEqual", position, layer.floats(low, "low"))
    below = layer.op("LessOrEqual" if own.border == INSIDE else "Less", position, layer.floats(high, "high"))
    counts = layer.op("And", above, below)
    place = layer.op("Where", counts, position, zero)
    near = layer.op("Floor", place)
    part = layer.op("Sub", place, near)
    shares = layer.op("Sub", layer.floats(1, "one"), part), part
    taps, last = [], layer.floats(size - 1, "last")
    for index, share in zip((near, layer.op("Add", near, layer.floats(1, "one"))), shares):
        inside = layer.op("Clip", index, zero, last)
        weighs = counts if own.border != ZEROS else layer.op("And", counts, layer.op("Equal", index, inside))
        taps.append((cast(layer, inside, np.int64), layer.op("Where", weighs, share, zero)))
    return taps, counts
