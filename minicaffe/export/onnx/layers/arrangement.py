"""Layers that arrange numbers in another way, and sources of constants."""

from __future__ import annotations

from collections.abc import Iterable

from minicaffe.export.onnx.common import axis_of, reshape
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


@exports("AutoCrop")
@exports("Crop")
def crop(layer: Conversion) -> str:
    """Slice of the axes that become shorter."""
    region = enumerate(layer.layer.region(*layer.bottom_shapes))
    shorter = [(axis, start, start + n) for axis, (start, n) in region if n < layer.bottom_shapes[0][axis]]
    return cut(layer, *zip(*shorter)) if shorter else layer.x


def cut(layer: Conversion, axes: Iterable[int], starts: Iterable[int], ends: Iterable[int]) -> str:
    """Slice of the first bottom, on each of `axes` from start to end."""
    limits = (layer.ints(list(each), name) for each, name in ((starts, "starts"), (ends, "ends"), (axes, "axes")))
    return layer.op("Slice", layer.x, *limits)


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
    """Reshape: 0 for the axes before, then the dims as given."""
    own, shape = layer.layer, layer.bottom_shapes[0]
    start = own.axis if own.axis >= 0 else len(shape) + own.axis + 1
    end = len(shape) if own.num_axes == -1 else start + own.num_axes
    if end == 0 and shape:  # in front of the batch, whose size is computed
        return reshape(layer, layer.x, [*layer.top_shapes[0][: len(own.dims)], -1, *shape[1:]])
    return reshape(layer, layer.x, [0] * start + [*own.dims, *shape[end:]])
