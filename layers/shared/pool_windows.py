"""Maxima and means over all windows of (N, C, H, W) arrays, and their gradients.

Both work axis by axis, so a k x k window costs 2 k steps over whole arrays instead of k^2.  Rows come first where the
order is free: rows are contiguous in memory, and fewer of them are left for the columns.  A few samples are processed
at a time so that the data stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minicaffe.layers.shared.views import parts
from minicaffe.layers.shared.window import Window, overlaps


def maximum(x: np.ndarray, window: Window, y: np.ndarray) -> None:
    """y = the largest value of each window; 0 for a window outside the picture."""
    for part in parts(x):
        rows = _along(0, np.maximum, -np.inf, x[part], window, y.shape[2])
        y[part] = _along(1, np.maximum, -np.inf, rows, window, y.shape[3])
    _clear_outside(x.shape, window, y, 0)


def maximum_places(x: np.ndarray, window: Window, y: np.ndarray) -> np.ndarray:
    """For each window the place row * W + column of its maximum, the first in reading order; -1 where it is outside."""
    height, width = x.shape[2:]
    best = _along(1, np.maximum, -np.inf, x, window, y.shape[3])
    column = np.zeros(best.shape, np.int64)
    found = np.zeros(best.shape, bool)
    for inside, source in _steps(1, width, y.shape[3], window):
        hit = (x[source] == best[inside]) & ~found[inside]
        column[inside][hit] = np.broadcast_to(np.arange(width)[source], hit.shape)[hit]
        found[inside] |= hit
    place = np.full(y.shape, -1, np.int64)
    for inside, source in _steps(0, height, y.shape[2], window):
        hit = (best[source] == y[inside]) & (place[inside] < 0)
        here = np.arange(height)[:, None][source] * width + column[source]
        place[inside][hit] = here[hit]
    _clear_outside(x.shape, window, place, -1)
    return place


def maximum_gradient(x: np.ndarray, window: Window, y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """dx += the gradient of `maximum`: each dy goes to the first largest value of its window, in reading order.

    So it goes to the first row that contains one, and there to the first column.
    """
    for part in parts(x):
        best = _along(1, np.maximum, -np.inf, x[part], window, y.shape[3])
        dbest = np.zeros_like(best)
        _to_first(0, best, window, y[part], dy[part].copy(), dbest)
        _to_first(1, x[part], window, best, dbest, dx[part])


def _to_first(axis: int, x: np.ndarray, window: Window, y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """Add each dy to dx where, along one axis of its window, x first equals y; dy is used up."""
    for inside, source in _steps(axis, x.shape[2 + axis], y.shape[2 + axis], window):
        rest = dy[inside]
        share = rest * (x[source] == y[inside])  # several times faster than np.where
        dx[source] += share
        rest -= share


def average(x: np.ndarray, window: Window, y: np.ndarray) -> None:
    """y = the sum of each window divided by its size within the padded picture; 0 where it is outside."""
    divisor = _sizes(x.shape, window, y.shape)
    for part in parts(x):
        rows = _along(0, np.add, 0, x[part], window, y.shape[2])
        y[part] = _along(1, np.add, 0, rows, window, y.shape[3]) / divisor


def average_gradient(window: Window, dy: np.ndarray, dx: np.ndarray) -> None:
    """dx += the gradient of `average`."""
    divisor = _sizes(dx.shape, window, dy.shape)
    for part in parts(dx):
        share = dy[part] / divisor
        rows = np.zeros((*share.shape[:3], dx.shape[3]), dx.dtype)
        for inside, source in _steps(1, dx.shape[3], dy.shape[3], window):
            rows[source] += share[inside]
        for inside, source in _steps(0, dx.shape[2], dy.shape[2], window):
            dx[part][source] += rows[inside]


def _along(axis: int, combine: np.ufunc, start: float, x: np.ndarray, window: Window, output: int) -> np.ndarray:
    """Combine the elements of `output` windows along spatial axis 0 or 1; those in the padding are left out."""
    result = np.full((*x.shape[: 2 + axis], output, *x.shape[3 + axis :]), start, x.dtype)
    for inside, source in _steps(axis, x.shape[2 + axis], output, window):
        combine(result[inside], x[source], out=result[inside])
    return result


def _steps(axis: int, size: int, output: int, window: Window) -> Iterator[tuple[tuple, tuple]]:
    """For each place along spatial axis 0 or 1 of a window: the windows that have it inside the picture, and where."""
    after = (slice(None),) * (1 - axis)
    for _, inside, source in overlaps(size, output, *(field[axis] for field in window)):
        yield (..., inside, *after), (..., source, *after)


def _sizes(x_shape, window: Window, y_shape) -> np.ndarray:
    """(h, w): the number of places of each window within the padded picture, at least 1."""
    rows, columns = (
        np.clip(size + 2 * pad - np.arange(count) * stride, 1, kernel)
        for size, count, kernel, stride, pad, _ in zip(x_shape[2:], y_shape[2:], *window)
    )
    return np.outer(rows, columns).astype(np.float32)


def _clear_outside(x_shape, window: Window, y: np.ndarray, value: float) -> None:
    """Write `value` where a window starts at or behind the far border; the size formula allows that without padding."""
    for axis, (size, stride, pad) in enumerate(zip(x_shape[2:], window.stride, window.pad)):
        first = -(-(size + pad) // stride)
        y[(slice(None),) * (2 + axis) + (slice(first, None),)] = value
