"""Linear maps of pictures that work on rows and columns apart: Unpooling, MaskResize, ImResize."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.cuda import ops


class Separable:
    """y = A x B' for each picture x (h, w), with A (H, h) and B (W, w), and its adjoint dx = A' dy B."""

    def __init__(self, weights: Iterable[np.ndarray], dtype: np.dtype) -> None:
        """`weights`: A and B."""
        self._dtype = dtype
        self._rows, self._columns, self._between = (Blob((), dtype) for _ in range(3))  # A, B, x B' or dy B
        for blob, values in zip((self._rows, self._columns), weights):
            blob.reshape(values.shape)
            blob.data[...] = values

    @property
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """A and B."""
        return self._rows.read_data(), self._columns.read_data()

    def apply(self, x: np.ndarray, y: np.ndarray) -> None:
        """Write y (..., H, W) for x (..., h, w)."""
        np.matmul(self._rows.read_data() @ x, self._columns.read_data().T, out=y)

    def adjoint(self, dy: np.ndarray, dx: np.ndarray) -> None:
        """Write dx (..., h, w) for dy (..., H, W)."""
        np.matmul(self._rows.read_data().T @ dy, self._columns.read_data(), out=dx)

    def apply_gpu(self, pictures: int, x: int, y: int) -> None:
        """`apply`, for device pointers to so many pictures."""
        (high, h), (wide, w) = self._rows.shape, self._columns.shape
        between = self._reshaped(pictures, h, wide)
        ops.gemm(False, True, pictures * h, wide, w, 1, x, self._columns.gpu_data(), 0, between, self._dtype)
        sizes = pictures, 0, h * wide, high * wide
        rows = self._rows.gpu_data()
        ops.gemm_batched(False, False, high, wide, h, 1, rows, between, 0, y, self._dtype, *sizes)

    def adjoint_gpu(self, pictures: int, dy: int, dx: int) -> None:
        """`adjoint`, for device pointers to so many pictures."""
        (high, h), (wide, w) = self._rows.shape, self._columns.shape
        between = self._reshaped(pictures, high, w)
        ops.gemm(False, False, pictures * high, w, wide, 1, dy, self._columns.gpu_data(), 0, between, self._dtype)
        sizes = pictures, 0, high * w, h * w
        ops.gemm_batched(True, False, h, w, high, 1, self._rows.gpu_data(), between, 0, dx, self._dtype, *sizes)

    def _reshaped(self, *shape: int) -> int:
        self._between.reshape(shape)
        return self._between.mutable_gpu_data()
