"""Steps that the converters of several layer types share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.blob import canonical_axis
from minicaffe.export.onnx.conversion import Conversion
from minicaffe.export.onnx.graph import ELEMENT_TYPES

_BEGIN = -(1 << 63)  # of a Slice with a negative step: down to the first place of any axis


def axis_of(layer: Conversion, axis: int, bottom: int = 0) -> int:
    """Return an axis of a bottom counted from the front: -1 is the last one."""
    return canonical_axis(axis, len(layer.bottom_shapes[bottom]))


def cast(layer: Conversion, value: str, dtype: np.typing.DTypeLike) -> str:
    """Cast: the value as float32, int64 (truncated) or bool."""
    return layer.op("Cast", value, to=ELEMENT_TYPES[np.dtype(dtype)])


def reshape(layer: Conversion, value: str, dims: Sequence[int]) -> str:
    """Reshape: 0 copies the length of the axis at its place, one -1 is computed from the count."""
    return layer.op("Reshape", value, layer.ints(dims, "shape"))


def append_axes(layer: Conversion, value: str, axes: int, count: int) -> str:
    """Unsqueeze: a value of `axes` axes with `count` axes of length 1 behind them; the value itself if count is 0.

    ONNX aligns shapes at the last axis: (C) becomes (C, 1, 1) to count for each channel of (N, C, H, W).
    """
    return layer.op("Unsqueeze", value, layer.ints(range(axes, axes + count), "axes")) if count else value


def multiply(layer: Conversion, value: str, factor: float) -> str:
    """Mul with a constant; the value itself if that is 1."""
    return value if factor == 1 else layer.op("Mul", value, layer.floats(factor, "factor"))


def add(layer: Conversion, value: str, term: float) -> str:
    """Add a constant; the value itself if that is 0."""
    return value if term == 0 else layer.op("Add", value, layer.floats(term, "term"))


def turned(layer: Conversion, value: str, axes: Sequence[int]) -> str:
    """Slice with steps of -1: the value with some axes in reverse order."""
    ends = (([-1] * len(axes), "start"), ([_BEGIN] * len(axes), "end"), (axes, "axis"), ([-1] * len(axes), "step"))
    return layer.op("Slice", value, *(layer.ints(numbers, name) for numbers, name in ends)) if axes else value


def pads(begin: Sequence[int], end: Sequence[int] | None = None) -> list[int]:
    """Return the attribute `pads`: the padding before each spatial axis, then behind each; end: by default the same."""
    return [*begin, *(begin if end is None else end)]


def centred(layer: Conversion, value: str, axes: Sequence[int]) -> str:
    """ReduceMean, Sub: the value minus its mean over some axes."""
    return layer.op("Sub", value, layer.op("ReduceMean", value, axes=axes))


def mean_square(layer: Conversion, value: str, axes: Sequence[int]) -> str:
    """Mul, ReduceMean: the mean of the squares over some axes, which have length 1 then."""
    return layer.op("ReduceMean", layer.op("Mul", value, value), axes=axes)


def statistics(layer: Conversion, value: str, axes: Sequence[int]) -> tuple[str, str]:
    """The value minus its mean over some axes, and its variance, whose axes have length 1 there."""
    deviations = centred(layer, value, axes)
    return deviations, mean_square(layer, deviations, axes)
