"""Layers as plain loops, number by number."""

from __future__ import annotations

import itertools
import math
from itertools import product

import numpy as np

from minicaffe.layers.shared.window import Window


def convolution(x: np.ndarray, w: np.ndarray, window: Window, group: int = 1) -> np.ndarray:
    """Convolution of x (N, C, ...) with weights (O, C / group, ...), without a bias: a product for each place."""
    out, outputs, inputs = window.output(x.shape[2:]), len(w) // group, w.shape[1]
    y = np.zeros((len(x), len(w), *out))
    for t, j in product(np.ndindex(*out), np.ndindex(*w.shape[2:])):
        place = [
            a * s + b * d - p for a, s, b, d, p in zip(t, window.stride, j, window.dilation, window.pad, strict=True)
        ]
        if all(0 <= a < n for a, n in zip(place, x.shape[2:], strict=True)):
            for g in range(group):
                o, c = slice(g * outputs, (g + 1) * outputs), slice(g * inputs, (g + 1) * inputs)
                y[(slice(None), o, *t)] += x[(slice(None), c, *place)] @ w[(o, slice(None), *j)].T
    return y


def pooling(x: np.ndarray, kernel, stride, pad=0, average: bool = False, dilation=1):
    """Pooling of x (N, C, *spatial) as in the original: sizes rounded up, windows clipped.

    kernel, stride, pad, dilation: one number for all spatial axes, or one for each.
    Returns the tops and, for maxima, their places (row * W + column); 0 and -1 for a window outside the picture.
    """
    size, axes = x.shape[2:], range(x.ndim - 2)
    kernel, stride, pad, dilation = (
        np.broadcast_to(each, x.ndim - 2).tolist() for each in (kernel, stride, pad, dilation)
    )
    reach = [dilation[a] * (kernel[a] - 1) + 1 for a in axes]
    out = [math.ceil((size[a] + 2 * pad[a] - reach[a]) / stride[a]) + 1 for a in axes]
    if any(pad):
        out = [out[a] - ((out[a] - 1) * stride[a] >= size[a] + pad[a]) for a in axes]
    y, mask = np.zeros((*x.shape[:2], *out)), np.full((*x.shape[:2], *out), -1)
    for n, c, *window in np.ndindex(y.shape):
        lines = [[window[a] * stride[a] - pad[a] + dilation[a] * j for j in range(kernel[a])] for a in axes]
        count = math.prod(sum(place < size[a] + pad[a] for place in lines[a]) for a in axes)
        places = list(itertools.product(*([place for place in lines[a] if 0 <= place < size[a]] for a in axes)))
        if places and average:
            y[(n, c, *window)] = sum(x[(n, c, *place)] for place in places) / count
        elif places:
            best = max(places, key=lambda place: x[(n, c, *place)])
            y[(n, c, *window)], mask[(n, c, *window)] = x[(n, c, *best)], np.ravel_multi_index(best, size)
    return y, mask


def scatter(values: np.ndarray, mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array of this shape (N, C, *spatial) in which each value is added at the place that the mask names."""
    result = np.zeros(shape)
    for n, c, *window in np.ndindex(values.shape):
        if mask[(n, c, *window)] >= 0:
            result[n, c].flat[int(mask[(n, c, *window)])] += values[(n, c, *window)]
    return result


def lrn(x: np.ndarray, size: int, alpha: float, beta: float, k: float, within: bool = False) -> np.ndarray:
    """LRN of x (N, C, H, W) across `size` channels, or within squares of `size` places, where k is 1."""
    y, half = np.empty_like(x), size // 2
    for n, c, h, w in np.ndindex(x.shape):
        if within:
            region = x[n, c, max(0, h - half) : h + half + 1, max(0, w - half) : w + half + 1]
            y[n, c, h, w] = x[n, c, h, w] / (1 + alpha / size**2 * (region**2).sum()) ** beta
        else:
            region = x[n, max(0, c - half) : c + half + 1, h, w]
            y[n, c, h, w] = x[n, c, h, w] / (k + alpha / size * (region**2).sum()) ** beta
    return y


def softmax(x: np.ndarray, axis: int = 1) -> np.ndarray:
    """exp(x) over its sum along an axis."""
    return np.exp(x) / np.exp(x).sum(axis, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))
