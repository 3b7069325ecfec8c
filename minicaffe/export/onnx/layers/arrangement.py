"""Layers that arrange numbers in another way, and sources of constants."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from minicaffe.export.onnx.common import append_axes, axis_of, cast, reshape, turned
from minicaffe.export.onnx.conversion import Conversion, exports

_END = (1 << 63) - 1  # of a Slice: up to the last place of any axis


@exports("Split")
def split(layer: Conversion) -> list[str]:
    """Nothing: all tops are the bottom."""
    return [layer.x] * len(layer.top_shapes)


@exports("Silence")
def silence(layer: Conversion) -> list[str]:
    """Nothing."""
    return []


@exports("Parameter")
def parameter(layer: Conversion) -> str:
    """An initializer, Identity."""
    return layer.op("Identity", layer.param(0))


@exports("DummyData")
def dummy_data(layer: Conversion) -> list[str]:
    """Expand of one number for each top; with random fillers an input of the graph."""
    return [
        layer.op("Expand", layer.floats(filler.value, "value"), layer.ints(shape, "shape"))
        for filler, shape in zip(layer.layer.fillers, layer.top_shapes)
    ]


@exports("Gather", "GradientScaler")
def passed_on(layer: Conversion) -> list[str]:
    """Nothing: the tops are the bottoms."""
    return layer.bottoms


@exports("Reverse", "Flip")
def reverse(layer: Conversion) -> str:
    """Slice with steps of -1."""
    return turned(layer, layer.x, layer.layer.axes)


@exports("ReverseTime")
def reverse_time(layer: Conversion) -> str:
    """Cast of the lengths, ReverseSequence; without copy_remaining Where, 0 from each length on."""
    steps = layer.op("Squeeze", layer.op("Shape", layer.x, end=1))
    lengths = cast(layer, reshape(layer, layer.bottoms[1], [-1]), np.int64)
    y = layer.op("ReverseSequence", layer.x, lengths, time_axis=0, batch_axis=1)
    if layer.layer.copies:
        return y
    places = layer.op("Range", layer.ints(0, "first"), steps, layer.ints(1, "step"))
    turns = layer.op("Less", append_axes(layer, places, 1, 1), lengths)
    turns = append_axes(layer, turns, 2, len(layer.bottom_shapes[0]) - 2)
    return layer.op("Where", turns, y, layer.floats(0, "zero"))


@exports("MergeCrop")
def merge_crop(layer: Conversion) -> str:
    """Slice of the centre of the second bottom; Concat, or Add; Expand of 0 for a bottom that does not count."""
    own, axes = layer.layer, range(2, len(layer.bottom_shapes[0]))
    values = [layer.x, layer.bottoms[1]]
    if axes:
        places = own.cut[2:]
        values[1] = cut(layer, axes, [each.start for each in places], [each.stop for each in places], value=values[1])
    if not own.stack:
        values = [value for value, counts in zip(values, own.forwards) if counts] or [_zeros(layer, layer.x)]
        return layer.op("Add", *values) if len(values) == 2 else values[0]
    parts = (value if counts else _zeros(layer, value) for value, counts in zip(values, own.forwards))
    return layer.op("Concat", *parts, axis=1)


def _zeros(layer: Conversion, value: str) -> str:
    return layer.op("Expand", layer.floats(0, "zero"), layer.op("Shape", value))


@exports("Concat")
def concat(layer: Conversion) -> str:
    """Concat; nothing with one bottom."""
    if len(layer.bottoms) == 1:
        return layer.x
    return layer.op("Concat", *layer.bottoms, axis=axis_of(layer, layer.layer.given_axis))


@exports("Slice")
def slice_(layer: Conversion) -> list[str]:
    """Split into equal parts; a Slice for each top with slice_point; nothing with one top."""
    own, axis, count = layer.layer, axis_of(layer, layer.layer.given_axis), len(layer.top_shapes)
    if count == 1:
        return [layer.x]
    if not own.points:
        return layer.ops("Split", count, layer.x, axis=axis)
    return [cut(layer, [axis], [start], [end]) for start, end in zip([0, *own.points], [*own.points, _END])]


@exports("AutoCrop", "Crop")
def crop(layer: Conversion) -> str:
    """Slice of the axes that become shorter."""
    region = enumerate(layer.layer.region(*layer.bottom_shapes))
    shorter = [(axis, start, start + n) for axis, (start, n) in region if n < layer.bottom_shapes[0][axis]]
    return cut(layer, *zip(*shorter)) if shorter else layer.x


def cut(
    layer: Conversion, axes: Iterable[int], starts: Iterable[int], ends: Iterable[int], *, value: str | None = None
) -> str:
    """Slice of the first bottom, or of another value, on each of `axes` from start to end."""
    limits = (layer.ints(list(each), name) for each, name in ((starts, "starts"), (ends, "ends"), (axes, "axes")))
    return layer.op("Slice", layer.x if value is None else value, *limits)


@exports("Tile")
def tile(layer: Conversion) -> str:
    """Tile."""
    repeats = [1] * len(layer.bottom_shapes[0])
    repeats[axis_of(layer, layer.layer.given_axis)] = layer.layer.tiles
    return layer.op("Tile", layer.x, layer.ints(repeats, "repeats"))


@exports("Flatten")
def flatten(layer: Conversion) -> str:
    """Reshape: 0 for the axes before, -1 for the merged ones."""
    param, shape = layer.layer.layer_param.flatten_param, layer.bottom_shapes[0]
    return reshape(
        layer, layer.x, [0] * axis_of(layer, param.axis) + [-1, *shape[axis_of(layer, param.end_axis) + 1 :]]
    )


@exports("Reshape")
def reshape_layer(layer: Conversion) -> str:
    """Reshape: 0 for the axes before, then the dims as given, then Shape or the lengths of the axes behind."""
    own, shape = layer.layer, layer.bottom_shapes[0]
    start = own.axis if own.axis >= 0 else len(shape) + own.axis + 1
    end = len(shape) if own.num_axes == -1 else start + own.num_axes
    if start == 0 and end < len(shape):  # the batch may be behind
        behind = layer.op("Shape", layer.x, start=end)
        return layer.op("Reshape", layer.x, layer.op("Concat", layer.ints(own.dims, "shape"), behind, axis=0))
    return reshape(layer, layer.x, [0] * start + [*own.dims, *shape[end:]])
