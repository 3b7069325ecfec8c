"""Pictures at another height and width: y = A x B^T for each picture, with weights A of rows and B of columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.cuda.kernels import kernel


class Resampling:
    """The product for weights of rows (H', H) and columns (W', W), few of which are not 0, and its gradient.

    unknown: whether values that are nan are left out of sums: y is the mean, by weight, of the others, or nan where
        the weight of those that are nan is above half of that of the others.
    weights: of rows and columns.
    """

    def __init__(self, weights: Sequence[np.ndarray], dtype: np.dtype, unknown: bool = False) -> None:
        self.dtype, self.unknown, self.weights = dtype, unknown, tuple(weights)
        self._tables = [_Table(matrix, dtype) for matrix in weights]
        self._transposed = [_Table(matrix.T, dtype) for matrix in weights]

    def forward(self, x: np.ndarray, y: np.ndarray) -> None:
        """Write y (N, C, H', W') from x (N, C, H, W)."""
        if not self.unknown:
            y[...] = _weighted(x, self._tables)
            return
        nan = np.isnan(x)
        known, lost = (_weighted(mask.astype(self.dtype), self._tables) for mask in (~nan, nan))
        with np.errstate(divide="ignore", invalid="ignore"):
            y[...] = _weighted(np.where(nan, 0, x), self._tables) / known
            y[lost / known > 0.5] = np.nan

    def backward(self, dy: np.ndarray, dx: np.ndarray) -> None:
        """Write the gradient to x."""
        dx[...] = _weighted(dy, self._transposed)

    def forward_gpu(self, planes: int, x: int, y: int, channels: Sequence[int] = (1, 1, 0)) -> None:
        """As `forward`, of so many pictures; channels: of a sample of x, of one of y, and the first that is written."""
        of_x, of_y, start = channels
        self._launch(self._tables, planes, (of_x, of_x, 0, of_y, start), x, y)

    def backward_gpu(self, planes: int, dy: int, dx: int, channels: Sequence[int] = (1, 1, 0)) -> None:
        """As `backward`; channels as of `forward_gpu`."""
        of_x, of_y, start = channels
        self._launch(self._transposed, planes, (of_x, of_y, start, of_x, 0), dy, dx)

    def _launch(self, tables: Sequence[_Table], planes: int, channels: tuple[int, ...], x: int, y: int) -> None:
        rows, columns = tables
        weights = *rows.arguments(), *columns.arguments()
        size = planes * rows.out * columns.out
        kernel("extensions/resample", "resample", self.dtype)(size, *channels, *weights, self.unknown, x, y)


class _Table:
    """The weights of a matrix (out, length) that are not 0: of each new place the first old one, and `taps` weights."""

    def __init__(self, matrix: np.ndarray, dtype: np.dtype) -> None:
        self.out, self.length = matrix.shape
        used = matrix != 0
        first = used.argmax(1)
        last = self.length - 1 - used[:, ::-1].argmax(1)
        self.taps = int(np.where(used.any(1), last - first + 1, 1).max(initial=1))
        self.places = first[:, None] + np.arange(self.taps)
        inside, self.places = self.places < self.length, np.minimum(self.places, self.length - 1)
        self._first, self._weights = Blob((self.out,), dtype), Blob((self.out, self.taps), dtype)
        self._first.data[...] = first
        self._weights.data[...] = np.where(inside, np.take_along_axis(matrix, self.places, 1), 0)

    def arguments(self) -> tuple[int, ...]:
        """Those of the kernel."""
        return self.length, self.out, self.taps, self._first.gpu_data(), self._weights.gpu_data()

    def weighted(self, x: np.ndarray) -> np.ndarray:
        """Return the sums (..., out, W) of x (..., length, W); a weight of 0 makes 0 of any value."""
        y = np.zeros((*x.shape[:-2], self.out, x.shape[-1]), x.dtype)
        for places, weights in zip(self.places.T, self._weights.read_data().T):
            weights = weights[:, None]
            y += np.multiply(x[..., places, :], weights, out=np.zeros_like(y), where=weights != 0)
        return y


def _weighted(x: np.ndarray, tables: Sequence[_Table]) -> np.ndarray:
    rows, columns = tables
    return columns.weighted(rows.weighted(x).swapaxes(2, 3)).swapaxes(2, 3)


def aligned_weights(size: int, new_size: int, wide: bool = False) -> np.ndarray:
    """Return the weight (new_size, size) of each old place in each new one, the first and last of both aligned.

    It falls linearly from 1 to 0 at a distance of one place; wide: of the step from one new place to the next, if that
    is larger, so that all old places count.
    """
    step = (size - 1) / (new_size - 1) if new_size > 1 else 0
    reach = max(1.0, step if new_size > 1 else math.inf) if wide else 1.0
    distance = np.abs(np.arange(new_size)[:, None] * step - np.arange(size))
    return np.maximum(0, 1 - distance / reach)
