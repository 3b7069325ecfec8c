"""ROIPooling, PSROIPooling and ROIAlign."""

from __future__ import annotations

import numpy as np

from minicaffe.export.onnx import onnx_pb2
from minicaffe.export.onnx.common import cast, reshape
from minicaffe.export.onnx.conversion import Conversion, exports

_DOUBLE = onnx_pb2.TensorProto.DOUBLE


@exports("ROIPooling")
def roi_pooling(layer: Conversion) -> str:
    """MaxRoiPool, which rounds corners and bins as the layer does; with pad_ratio of corners moved by Sub and Add."""
    own = layer.layer
    if own.of_volumes:
        return _parts_of_volumes(layer)
    regions = _regions(layer)
    if own.pad_ratio:
        sample, low, high = layer.ops("Split", 3, regions, layer.ints([1, 2, 2], "parts"), axis=1)
        size = layer.op("Add", layer.op("Sub", high, low), layer.floats(1, "one"))
        pad = layer.op("Mul", size, layer.floats(own.pad_ratio, "pad_ratio"))
        regions = layer.op("Concat", sample, layer.op("Sub", low, pad), layer.op("Add", high, pad), axis=1)
    return layer.op("MaxRoiPool", layer.x, regions, pooled_shape=own.bins, spatial_scale=float(own.scale))


def _parts_of_volumes(layer: Conversion) -> str:
    """Return R-C3D's ROIPooling: ReduceMax in each bin of rows and columns, then MaxRoiPool along time."""
    own, (_, channels, _, height, width) = layer.layer, layer.bottom_shapes[0]
    along, down, across = own.bins
    axes, maxima = layer.ints([3, 4], "axes"), []
    for i, j in np.ndindex(down, across):
        begin = layer.ints([i * height // down, j * width // across], "begin")
        end = layer.ints([-(-(i + 1) * height // down), -(-(j + 1) * width // across)], "end")
        maxima.append(layer.op("ReduceMax", layer.op("Slice", layer.x, begin, end, axes), axes=[3, 4]))
    lines = layer.op("Transpose", layer.op("Concat", *maxima, axis=3), perm=[0, 1, 3, 2, 4])  # (N, C, bins, L, 1)
    lines = reshape(layer, lines, [0, channels * down * across, -1, 1])
    sample, first, last = layer.ops("Split", 3, reshape(layer, layer.bottoms[1], [-1, 3]), axis=1)
    none = layer.op("Sub", first, first)
    regions = layer.op("Concat", sample, none, first, none, last, axis=1)
    scale = float(own.temporal_scale)
    pooled = layer.op("MaxRoiPool", lines, regions, pooled_shape=[along, 1], spatial_scale=scale)
    pooled = layer.op("Transpose", reshape(layer, pooled, [-1, channels, down * across, along]), perm=[0, 1, 3, 2])
    return reshape(layer, pooled, [-1, channels, along, down, across])


@exports("ROIAlign")
def roi_align(layer: Conversion) -> str:
    """RoiAlign, the mean of points as in Mask R-CNN; MS-CNN's values at the corners of bins have no form."""
    own = layer.layer
    if own.on_corners:
        raise layer.impossible("with roi_pooling_param it has no ONNX form")
    sample, low, high = layer.ops("Split", 3, _regions(layer), layer.ints([1, 2, 2], "parts"), axis=1)
    high = layer.op("Add", high, layer.floats(own.end, "end")) if own.end else high
    return layer.op(
        "RoiAlign", layer.x, layer.op("Concat", low, high, axis=1), reshape(layer, cast(layer, sample, np.int64), [-1]),
        coordinate_transformation_mode="output_half_pixel", mode="avg", output_height=own.bins[0],
        output_width=own.bins[1], sampling_ratio=own.points, spatial_scale=float(own.scale),
    )  # fmt: skip


@exports("PSROIPooling")
def psroi_pooling(layer: Conversion) -> str:
    """CumSum over rows and columns in float64, Gather at the corners of each bin, Sub, Div by its size.

    The bins are computed by nodes that round as the layer does.  A bin's sum is a difference of sums over all places
    above it and to its left, so an infinite value there spoils it.
    """
    own = layer.layer
    sample, x1, y1, x2, y2 = layer.ops("Split", 5, _regions(layer), axis=1)
    rows, columns = _bins(layer, y1, y2, 0), _bins(layer, x1, x2, 1)
    places = own.outputs, own.group, own.group
    sample = reshape(layer, cast(layer, sample, np.int64), [-1, 1, 1, 1])
    channel = layer.ints(np.arange(np.prod(places)).reshape(1, *places), "channels")
    picture = _combined(layer, sample, layer.bottom_shapes[0][1], channel)  # (R, output_dim, g, g)
    return _means(layer, picture, rows, columns)


def _regions(layer: Conversion) -> str:
    """Return the regions as (R, 5)."""
    return layer.bottoms[1] if len(layer.bottom_shapes[1]) == 2 else reshape(layer, layer.bottoms[1], [-1, 5])


def _bins(layer: Conversion, low: str, high: str, axis: int) -> tuple[str, str]:
    """Return where the bins begin and end on an axis, whole numbers that broadcast to (R, 1, g, g).

    low, high: coordinates of the regions, (R, 1).  axis: 0 for rows, 1 for columns.
    """
    own, size = layer.layer, layer.bottom_shapes[0][2 + axis]
    scale = layer.floats(own.scale, "scale")
    start = layer.op("Mul", _rounded(layer, low), scale)
    end = layer.op("Mul", layer.op("Add", _rounded(layer, high), layer.floats(1, "one")), scale)
    length = layer.op("Max", layer.op("Sub", end, start), layer.floats(0.1, "least"))
    step = layer.op("Div", length, layer.floats(own.group, "group"))

    def edges(numbers: np.ndarray, rounding: str) -> str:
        edge = layer.op("Add", layer.op("Mul", step, layer.floats(numbers, "numbers")), start)  # (R, g)
        edge = layer.op("Clip", layer.op(rounding, edge), layer.floats(0, "min"), layer.floats(size, "max"))
        return reshape(layer, cast(layer, edge, np.int64), [-1, 1, 1, own.group] if axis else [-1, 1, own.group, 1])

    numbers = np.arange(own.group)
    return edges(numbers, "Floor"), edges(numbers + 1, "Ceil")


def _rounded(layer: Conversion, x: str) -> str:
    """Return x rounded to whole numbers, halves away from zero."""
    size = layer.op("Floor", layer.op("Add", layer.op("Abs", x), layer.floats(0.5, "half")))
    return layer.op("Mul", layer.op("Sign", x), size)


def _means(layer: Conversion, picture: str, rows: tuple[str, str], columns: tuple[str, str]) -> str:
    """Return the means between rows and columns of the pictures (R, C, g, g), counted through x; 0 of no places."""
    sums = layer.op("Cast", layer.x, to=_DOUBLE)
    sums = layer.op("Pad", sums, layer.ints([0, 0, 1, 1, 0, 0, 0, 0], "pads"))  # the sums before row and column 0
    for axis in (2, 3):
        sums = layer.op("CumSum", sums, layer.ints(axis, "axis"))
    sums = reshape(layer, sums, [-1])
    height, width = layer.bottom_shapes[0][2:]

    def sum_of_rows(before: str) -> str:
        row = _combined(layer, picture, height + 1, before)
        left, right = (layer.op("Gather", sums, _combined(layer, row, width + 1, column)) for column in columns)
        return layer.op("Sub", right, left)

    above, below = map(sum_of_rows, rows)
    none = layer.ints(0, "none")
    size = layer.op("Mul", *(layer.op("Max", layer.op("Sub", end, begin), none) for begin, end in (rows, columns)))
    divisor = layer.op("Cast", layer.op("Max", size, layer.ints(1, "one")), to=_DOUBLE)
    mean = layer.op("Div", layer.op("Sub", below, above), divisor)
    filled = layer.op("Greater", size, none)
    return layer.op("Where", filled, cast(layer, mean, np.float32), layer.floats(0, "empty"))


def _combined(layer: Conversion, outer: str, length: int, inner: str) -> str:
    """Return the flat index outer * length + inner."""
    return layer.op("Add", layer.op("Mul", outer, layer.ints(length, "length")), inner)
