"""Maxima and means over all windows of (N, C, H, W) arrays, and their gradients.

Both go axis by axis, so a k x k window costs 2 k steps over whole arrays instead of k^2.  Rows come first where the
order is free: whole rows lie together in memory, and fewer of them are left for the columns.  Samples are taken a few
at a time to stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minicaffe.layers.shared.window import Window, overlaps

#: how many elements of the input are worked on at a time, 512 KB of float32
_ELEMENTS = 1 << 17


def maximum(x: np.ndarray, window: Window, y: np.ndarray) -> None:
    """y = the largest value of each window; 0 where a window lies outside."""
    for part in _parts(x):
        y[part] = _max_columns(_max_rows(x[part], window, y.shape[2]), window, y.shape[3])
    _clear_outside(x.shape, window, y, 0)


def maximum_places(x: np.ndarray, window: Window, y: np.ndarray) -> np.ndarray:
    """For each window the place row * W + column of its maximum, the first in reading order; -1 where it is outside."""
    height, width = x.shape[2:]
    best = _max_columns(x, window, y.shape[3])
    column = np.zeros(best.shape, np.int64)
    found = np.zeros(best.shape, bool)
    for inside, source in _steps(width, y.shape[3], window, 1):
        hit = (x[..., source] == best[..., inside]) & ~found[..., inside]
        column[..., inside][hit] = np.broadcast_to(np.arange(width)[source], hit.shape)[hit]
        found[..., inside] |= hit
    place = np.full(y.shape, -1, np.int64)
    for inside, source in _steps(height, y.shape[2], window, 0):
        hit = (best[:, :, source] == y[:, :, inside]) & (place[:, :, inside] < 0)
        here = np.arange(height)[source][:, None] * width + column[:, :, source]
        place[:, :, inside][hit] = here[hit]
    _clear_outside(x.shape, window, place, -1)
    return place


def maximum_gradient(x: np.ndarray, window: Window, y: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
    """dx += the gradient of `maximum`: each dy goes to the first largest value of its window, in reading order.

    So it goes to the first row that holds one, and there to the first column.
    """
    for part in _parts(x):
        best = _max_columns(x[part], window, y.shape[3])
        dbest, left = np.zeros_like(best), dy[part].copy()
        for inside, source in _steps(x.shape[2], y.shape[2], window, 0):
            rest = left[:, :, inside]
            share = rest * (best[:, :, source] == y[part][:, :, inside])  # several times faster than np.where
            dbest[:, :, source] += share
            rest -= share
        for inside, source in _steps(x.shape[3], y.shape[3], window, 1):
            rest = dbest[..., inside]
            share = rest * (x[part][..., source] == best[..., inside])
            dx[part][..., source] += share
            rest -= share


def average(x: np.ndarray, window: Window, y: np.ndarray) -> None:
    """y = the sum of each window divided by its size within the padded picture; 0 where it is outside."""
    divisor = _sizes(x.shape, window, y.shape)
    for part in _parts(x):
        rows = np.zeros((*y[part].shape[:3], x.shape[3]), x.dtype)
        for inside, source in _steps(x.shape[2], y.shape[2], window, 0):
            rows[:, :, inside] += x[part][:, :, source]
        total = np.zeros_like(y[part])
        for inside, source in _steps(x.shape[3], y.shape[3], window, 1):
            total[..., inside] += rows[..., source]
        y[part] = total / divisor


def average_gradient(window: Window, dy: np.ndarray, dx: np.ndarray) -> None:
    """dx += the gradient of `average`."""
    divisor = _sizes(dx.shape, window, dy.shape)
    for part in _parts(dx):
        share = dy[part] / divisor
        rows = np.zeros((*share.shape[:3], dx.shape[3]), dx.dtype)
        for inside, source in _steps(dx.shape[3], dy.shape[3], window, 1):
            rows[..., source] += share[..., inside]
        for inside, source in _steps(dx.shape[2], dy.shape[2], window, 0):
            dx[part][:, :, source] += rows[:, :, inside]


def _steps(size: int, output: int, window: Window, axis: int) -> Iterator[tuple[slice, slice]]:
    """For each place along one axis of a window: the windows that have it inside the picture, and where."""
    for _, inside, source in overlaps(size, output, *(field[axis] for field in window)):
        yield inside, source


def _parts(x: np.ndarray) -> Iterator[slice]:
    step = max(1, _ELEMENTS // max(1, x[:1].size))
    return (slice(i, i + step) for i in range(0, len(x), step))


def _max_columns(x: np.ndarray, window: Window, width: int) -> np.ndarray:
    best = np.full((*x.shape[:3], width), -np.inf, x.dtype)
    for inside, source in _steps(x.shape[3], width, window, 1):
        np.maximum(best[..., inside], x[..., source], out=best[..., inside])
    return best


def _max_rows(x: np.ndarray, window: Window, height: int) -> np.ndarray:
    best = np.full((*x.shape[:2], height, x.shape[3]), -np.inf, x.dtype)
    for inside, source in _steps(x.shape[2], height, window, 0):
        np.maximum(best[:, :, inside], x[:, :, source], out=best[:, :, inside])
    return best


def _sizes(x_shape, window: Window, y_shape) -> np.ndarray:
    """(h, w): how much of each window lies within the padded picture, at least 1."""
    rows, columns = (
        np.clip(size + 2 * pad - np.arange(count) * stride, 1, kernel)
        for size, count, kernel, stride, pad, _ in zip(x_shape[2:], y_shape[2:], *window)
    )
    return np.outer(rows, columns).astype(np.float32)


def _clear_outside(x_shape, window: Window, y: np.ndarray, value: float) -> None:
    """Put `value` where a window starts at or behind the far border: without padding the size formula allows that."""
    for axis, (size, stride, pad) in enumerate(zip(x_shape[2:], window.stride, window.pad)):
        first = -(-(size + pad) // stride)
        y[(slice(None),) * (2 + axis) + (slice(first, None),)] = value
