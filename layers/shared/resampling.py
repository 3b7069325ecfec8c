"""Linear maps of pictures to another height and width: y = A x B^T, with weights A of rows and B of columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.cuda.kernels import kernel


class Resampling:
    """The product for weights of rows (H', H) and columns (W', W), few of which are not 0, and its gradient.

    unknown: whether values that are nan are left out of sums: y is the mean, by weight, of the others, or nan where
        the weight of those that are nan is above half of that of the others.
    """

    def __init__(self, weights: Iterable[np.ndarray], dtype: np.dtype, unknown: bool = False) -> None:
        matrices = list(weights)
        self.dtype, self.unknown = dtype, unknown
        self._tables = [_Table(matrix, dtype) for matrix in matrices]
        self._transposed = [_Table(matrix.T, dtype) for matrix in matrices]

    @property
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Those of rows and of columns."""
        rows, columns = self._tables
        return rows.matrix, columns.matrix

    def forward(self, x: np.ndarray, y: np.ndarray) -> None:
        """Write y (..., H', W') from x (..., H, W)."""
        if not self.unknown:
            _resample(x, self._tables, y)
            return
        nan = np.isnan(x)
        known, lost = (_weighted(mask.astype(self.dtype), self._tables) for mask in (~nan, nan))
        with np.errstate(divide="ignore", invalid="ignore"):
            y[...] = _weighted(np.where(nan, 0, x), self._tables) / known
            y[lost / known > 0.5] = np.nan

    def backward(self, dy: np.ndarray, dx: np.ndarray) -> None:
        """Write the gradient to x."""
        _resample(dy, self._transposed, dx)

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
        self.matrix = matrix.astype(dtype)
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


def _resample(x: np.ndarray, tables: Sequence[_Table], y: np.ndarray) -> None:
    """Write A x B^T; with numbers that are not finite only the weights that are not 0 count."""
    rows, columns = tables
    if np.isfinite(x).all():
        np.matmul(rows.matrix @ x, columns.matrix.T, out=y)
    else:
        y[...] = _weighted(x, tables)


def _weighted(x: np.ndarray, tables: Sequence[_Table]) -> np.ndarray:
    rows, columns = tables
    return columns.weighted(rows.weighted(x).swapaxes(-1, -2)).swapaxes(-1, -2)


def aligned_weights(size: int, new_size: int, wide: bool = False) -> np.ndarray:
    """Return the weight (new_size, size) of each old place in each new one, the first and last of both aligned.

    It falls linearly from 1 to 0 at a distance of one place; wide: of the step from one new place to the next, if that
    is larger, so that all old places count.
    """
    step = (size - 1) / (new_size - 1) if new_size > 1 else 0
    reach = max(1.0, step if new_size > 1 else math.inf) if wide else 1.0
    distance = np.abs(np.arange(new_size)[:, None] * step - np.arange(size))
    return np.maximum(0, 1 - distance / reach)
