"""Layers that pick numbers or items by index, or find indices."""

from __future__ import annotations

import numpy as np

from minicaffe.export.onnx.common import axis_of, cast, reshape, turned
from minicaffe.export.onnx.conversion import Conversion, exports


@exports("Embed")
def embed(layer: Conversion) -> str:
    """Cast of the indices, Gather of rows of the table, Add."""
    rows = layer.op("Gather", layer.param(0), cast(layer, layer.x, np.int64), axis=0)
    return layer.op("Add", rows, layer.param(1)) if layer.layer.bias_term else rows


@exports("BatchReindex")
def batch_reindex(layer: Conversion) -> str:
    """Cast of the indices, Gather."""
    return layer.op("Gather", layer.x, cast(layer, layer.bottoms[1], np.int64), axis=0)


@exports("Filter")
def filter_(layer: Conversion) -> list[str]:
    """Compress with the selector as bool; axis 0 of the tops depends on values."""
    layer.axis_of_values = 0
    chosen = cast(layer, reshape(layer, layer.bottoms[-1], [-1]), np.bool_)
    return [layer.op("Compress", x, chosen, axis=0) for x in layer.bottoms[:-1]]


@exports("ArgMax")
def argmax(layer: Conversion) -> str:
    """ArgMax with select_last_index, ReduceMax; with top_k, TopK of the reversed numbers; without axis, of Flatten."""
    own, shape = layer.layer, layer.bottom_shapes[0]
    if own.given_axis is not None:
        axis = axis_of(layer, own.given_axis)
        values, indices = _largest(layer, layer.x, axis, shape[axis])
        return values if own.out_max_val else indices
    flat = layer.op("Flatten", layer.x, axis=1)
    values, indices = _largest(layer, flat, 1, int(np.prod(shape[1:])))
    both = layer.op("Concat", indices, values, axis=1) if own.out_max_val else indices
    return reshape(layer, both, (0, *layer.top_shapes[0][1:]))


def _largest(layer: Conversion, x: str, axis: int, length: int) -> tuple[str, str]:
    """Return values and indices, in float32, of the top_k largest numbers along an axis.

    Of equal numbers the later one comes first; ONNX's TopK has the earlier one first.
    """
    if layer.layer.top_k == 1:
        index = layer.op("ArgMax", x, axis=axis, select_last_index=1)
        return layer.op("ReduceMax", x, axes=[axis]), cast(layer, index, np.float32)
    top_k = layer.ints([layer.layer.top_k], "top_k")
    values, index = layer.ops("TopK", 2, turned(layer, x, [axis]), top_k, axis=axis)
    return values, layer.op("Sub", layer.floats(length - 1, "last"), cast(layer, index, np.float32))
