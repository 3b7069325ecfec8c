"""Maxima and means over all windows of (N, C, *spatial) arrays, and their gradients.

Both work axis by axis, so a k x k window costs 2 k steps over whole arrays instead of k^2.  The first axis comes first
where the order is free: what is adjacent along it is contiguous in memory, and less is left for the other axes.  A few
samples are processed at a time so that the data stay in the cache.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from minicaffe.layers.shared.views import parts
from minicaffe.layers.shared.window import Window, overlaps


def maximum(x: np.ndarray, window: Window, y: np.ndarray) -> None:
    """y = the largest value of each window; 0 for a window outside the picture."""
    for part in parts(x):
        best = x[part]
        for axis in range(x.ndim - 2):
            best = _along(axis, np.maximum, -np.inf, best, window, y.shape[2 + axis])
        y[part] = best
    _clear_outside(x.shape, window, y, 0)


def maximum_places(x: np.ndarray, window: Window, y: np.ndarray) -> np.ndarray:
    """For each window the place of its maximum, the first in reading order; -1 where it is outside.

    The place is row * W + column in pictures, the number in reading order for any number of axes.
    """
    best, place, step = x, np.zeros(x.shape, np.int64), 1
    for axis in reversed(range(x.ndim - 2)):
        size, output = x.shape[2 + axis], y.shape[2 + axis]
        values, before = best, place
        best = _along(axis, np.maximum, -np.inf, values, window, output) if axis else y
        place = np.full(best.shape, -1, np.int64)
        here = before + step * np.arange(size).reshape(-1, *[1] * (x.ndim - 3 - axis))
        for inside, source in _steps(axis, x.ndim - 2, size, output, window):
            hit = (values[source] == best[inside]) & (place[inside] < 0)
            place[inside][hit] = here[source][hit]
        step *= size
    _clear_outside(x.shape, window, place, -1)
    return place


def maximum_gradient(x: np.ndarray, window: Window, y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """dx += the gradient of `maximum`: each dy goes to the first largest value of its window, in reading order.

    So it goes to the first row that contains one, and there to the first column; likewise with more axes.
    """
    for part in parts(x):
        best = [x[part]]
        for axis in reversed(range(1, x.ndim - 2)):
            best.append(_along(axis, np.maximum, -np.inf, best[-1], window, y.shape[2 + axis]))
        top, dtop = y[part], dy[part].copy()
        for axis, values in enumerate(reversed(best)):
            dvalues = np.zeros_like(values) if axis < x.ndim - 3 else dx[part]
            _to_first(axis, values, window, top, dtop, dvalues)
            top, dtop = values, dvalues


def _to_first(axis: int, x: np.ndarray, window: Window, y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Add each dy to dx where, along one axis of its window, x first equals y; dy is used up."""
    for inside, source in _steps(axis, x.ndim - 2, x.shape[2 + axis], y.shape[2 + axis], window):
        rest = dy[inside]
        share = rest * (x[source] == y[inside])  # several times faster than np.where
        dx[source] += share
        rest -= share


def average(x: np.ndarray, window: Window, y: np.ndarray, whole: bool = False) -> None:
    """y = the sum of each window divided by its size within the padded picture; 0 where it is outside.

    whole: divide by the number of elements of a window instead (default False).
    """
    divisor = _sizes(x.shape, window, y.shape, whole)
    for part in parts(x):
        total = x[part]
        for axis in range(x.ndim - 2):
            total = _along(axis, np.add, 0, total, window, y.shape[2 + axis])
        y[part] = total / divisor


def average_gradient(window: Window, dy: np.ndarray, dx: np.ndarray, whole: bool = False) -> None:
    """dx += the gradient of `average`."""
    divisor = _sizes(dx.shape, window, dy.shape, whole)
    for part in parts(dx):
        share = dy[part] / divisor
        for axis in reversed(range(dx.ndim - 2)):
            shape = (*share.shape[: 2 + axis], *dx.shape[2 + axis :])
            target = np.zeros(shape, dx.dtype) if axis else dx[part]
            for inside, source in _steps(axis, dx.ndim - 2, dx.shape[2 + axis], dy.shape[2 + axis], window):
                target[source] += share[inside]
            share = target


def _along(axis: int, combine: np.ufunc, start: float, x: np.ndarray, window: Window, output: int) -> np.ndarray:
    """Combine the elements of `output` windows along one spatial axis; those in the padding are left out."""
    result = np.full((*x.shape[: 2 + axis], output, *x.shape[3 + axis :]), start, x.dtype)
    for inside, source in _steps(axis, x.ndim - 2, x.shape[2 + axis], output, window):
        combine(result[inside], x[source], out=result[inside])
    return result


def _steps(axis: int, axes: int, size: int, output: int, window: Window) -> Iterator[tuple[tuple, tuple]]:
    """For each place along one of `axes` spatial axes of a window: the windows that have it inside, and where."""
    after = (slice(None),) * (axes - 1 - axis)
    for _, inside, source in overlaps(size, output, *(field[axis] for field in window)):
        yield (..., inside, *after), (..., source, *after)


def _sizes(x_shape, window: Window, y_shape, whole: bool) -> np.ndarray:
    """The number of places of each window within the padded picture, at least 1; `whole`: of its elements."""
    along = [
        np.clip(-(-(size + 2 * pad - np.arange(count) * stride) // dilation), kernel if whole else 1, kernel)
        for size, count, kernel, stride, pad, dilation in zip(x_shape[2:], y_shape[2:], *window)
    ]
    return functools.reduce(np.multiply.outer, along).astype(np.float32)


def _clear_outside(x_shape, window: Window, y: np.ndarray, value: float) -> None:
    """Write `value` where a window has no place inside; sizes without padding and dilated windows allow that."""
    for axis, along in enumerate(zip(x_shape[2:], y.shape[2:], *window)):
        size, output, _, stride, pad, dilation = along
        if dilation > 1 or (output - 1) * stride - pad >= size:
            outside = np.ones(output, bool)
            for _, inside, _ in overlaps(*along):
                outside[inside] = False
            y[(slice(None),) * (2 + axis) + (outside,)] = value
