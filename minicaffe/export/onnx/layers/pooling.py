"""Pooling and SPP.

The last windows may extend beyond the padded picture.  ONNX's `ceil_mode` is not used: runtimes disagree in it.  The
padding at the end is what the last window needs; windows that are wholly outside are added by Pad.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minicaffe.export.onnx.common import cast, pads
from minicaffe.export.onnx.conversion import Conversion, exports
from minicaffe.layers.shared.window import Window, overlaps


class _Windows(NamedTuple):
    """All windows over pictures of a size.

    counts: the number of windows on each axis.  inside: how many of them begin before the end of the picture.
    """

    size: tuple[int, ...]
    window: Window
    counts: tuple[int, ...]

    @property
    def inside(self) -> list[int]:
        _, stride, pad, _ = self.window
        return [min(c, -(-(n + p) // s)) for c, n, p, s in zip(self.counts, self.size, pad, stride)]

    @property
    def attributes(self) -> dict[str, Sequence[int]]:
        """The attributes of a pooling node for the windows that are inside."""
        kernel, stride, pad, _ = self.window
        return {"kernel_shape": kernel, "strides": stride, "pads": pads(pad, self.ends)}

    @property
    def ends(self) -> list[int]:
        """The padding that the last window needs at the end of each axis."""
        _, stride, pad, _ = self.window
        extents = zip(self.inside, self.window.extent, stride, self.size, pad)
        return [max(0, (c - 1) * s + e - n - p) for c, e, s, n, p in extents]

    @property
    def dilated(self) -> bool:
        """Whether the elements of a window are not adjacent."""
        return set(self.window.dilation) != {1}

    @property
    def corrections(self) -> np.ndarray:
        """The size of the kernel divided by the number of places of each window within the padded picture: (h, w)."""
        along = [
            k / np.clip(-(-(n + 2 * p - np.arange(c) * s) // d), 1, k)
            for c, n, k, s, p, d in zip(self.inside, self.size, *self.window)
        ]
        return functools.reduce(np.multiply.outer, along)


@exports("NdPooling", "Pooling", "Pooling3D")
def pooling(layer: Conversion) -> list[str]:
    """MAX: MaxPool.  AVE: AveragePool.  STOCHASTIC: Div of two AveragePools.  The pads are those of the last window.

    The mask of MAX is the second output, Mod H W.  AVE has count_include_pad, and Mul by a map where windows reach
    beyond the padded picture.  Windows that are wholly outside are added by Pad.  With global_pooling GlobalMaxPool and
    GlobalAveragePool.
    """
    own, shape = layer.layer, layer.bottom_shapes[0]
    if own.pooling_param.global_pooling and own.pool != "STOCHASTIC" and len(layer.top_shapes) == 1:
        return [layer.op({"MAX": "GlobalMaxPool", "AVE": "GlobalAveragePool"}[own.pool], layer.x)]
    windows = _Windows(shape[2:], own.window(shape), layer.top_shapes[0][2:])
    if len(layer.top_shapes) == 2:
        return _with_mask(layer, windows)
    return [_pooled(layer, own.pool, windows)]


@exports("SPP")
def spp(layer: Conversion) -> str:
    """The Pooling of each level, Flatten, Concat."""
    own, shape = layer.layer, layer.bottom_shapes[0]
    pooled = []
    for level in own.levels:
        window = level.window(shape)
        pooled.append(_pooled(layer, own.pool, _Windows(shape[2:], window, window.pooled(shape[2:]))))
    if len(pooled) == 1:
        return pooled[0]
    return layer.op("Concat", *(layer.op("Flatten", each, axis=1) for each in pooled), axis=1)


def _pooled(layer: Conversion, pool: str, windows: _Windows) -> str:
    return _padded(layer, {"MAX": _max, "AVE": _average, "STOCHASTIC": _expected}[pool](layer, windows), windows, 0)


def _max(layer: Conversion, windows: _Windows) -> str:
    if windows.dilated:
        for size, count, *axis in zip(windows.size, windows.counts, *windows.window):
            if {i for _, inside, _ in overlaps(size, count, *axis) for i in range(count)[inside]} != set(range(count)):
                raise layer.impossible("a dilated window without any place inside has no ONNX form")
        return layer.op("MaxPool", _with_pads(layer, windows, -np.inf), **_dilations(windows))
    return layer.op("MaxPool", layer.x, **windows.attributes)


def _with_pads(layer: Conversion, windows: _Windows, fill: float) -> str:
    """Return the bottom with the padding, which may be larger than the kernel of a dilated window."""
    ends = [0, 0, *windows.window.pad, 0, 0, *windows.ends]
    return layer.op("Pad", layer.x, layer.ints(ends, "pads"), layer.floats(fill, "fill")) if any(ends) else layer.x


def _dilations(windows: _Windows) -> dict[str, Sequence[int]]:
    kernel, stride, _, dilation = windows.window
    return {"kernel_shape": kernel, "strides": stride, "dilations": dilation}


def _with_mask(layer: Conversion, windows: _Windows) -> list[str]:
    """Return the maxima and their places row * W + column; ONNX counts the places of all pictures before as well."""
    if windows.dilated:
        raise layer.impossible("the places of maxima in dilated windows have no ONNX form")
    maxima, places = layer.ops("MaxPool", 2, layer.x, **windows.attributes)
    mask = cast(layer, layer.op("Mod", places, layer.ints(np.prod(windows.size), "places")), np.float32)
    return [_padded(layer, maxima, windows, 0), _padded(layer, mask, windows, -1)]


def _mean(layer: Conversion, value: str, windows: _Windows) -> str:
    """Return sums divided by the size of the kernel, 0 in the padding; of dilated windows as a Conv of each channel."""
    if windows.dilated:
        channels, kernel = layer.bottom_shapes[0][1], windows.window.kernel
        weights = layer.floats(np.full((channels, 1, *kernel), 1 / np.prod(kernel)), "mean")
        return layer.op("Conv", _with_pads(layer, windows, 0), weights, group=channels, **_dilations(windows))
    return layer.op("AveragePool", value, count_include_pad=1, **windows.attributes)


def _average(layer: Conversion, windows: _Windows) -> str:
    mean, corrections = _mean(layer, layer.x, windows), windows.corrections
    if (corrections == 1).all() or getattr(layer.layer, "whole", False):
        return mean
    return layer.op("Mul", mean, layer.floats(corrections, "corrections"))


def _expected(layer: Conversion, windows: _Windows) -> str:
    """Return sum(x^2) / sum(x), 0 where both are 0."""
    squares = _mean(layer, layer.op("Mul", layer.x, layer.x), windows)
    least = layer.floats(np.finfo(np.float32).tiny, "tiny")
    return layer.op("Div", squares, layer.op("Max", _mean(layer, layer.x, windows), least))


def _padded(layer: Conversion, value: str, windows: _Windows, fill: float) -> str:
    """Add the windows that are outside."""
    outside = [count - inside for count, inside in zip(windows.counts, windows.inside)]
    if not any(outside):
        return value
    return layer.op("Pad", value, layer.ints([0] * (len(outside) + 4) + outside, "outside"), layer.floats(fill, "fill"))
