"""The softmax along one axis of a blob, and the view (outer, length, inner) around that axis."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.blob import canonical_axis
from minicaffe.cuda.kernels import kernel


def three_axes(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """Return (outer, length, inner): the counts before, on and after an axis."""
    axis = canonical_axis(axis, len(shape))
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def softmax(x: np.ndarray, y: np.ndarray) -> None:
    """Write the softmax of x along axis 1 into y; both (outer, classes, inner)."""
    np.subtract(x, x.max(axis=1, keepdims=True, initial=np.finfo(x.dtype).min), out=y)
    np.exp(y, out=y)
    y /= y.sum(axis=1, keepdims=True)


def softmax_gpu(x: int, y: int, view: tuple[int, int, int], dtype: np.dtype) -> None:
    """`softmax` on the device: a block for each row if rows are contiguous, else a thread for each."""
    outer, classes, inner = view
    if inner == 1:
        kernel("softmax", "rows", dtype).launch((max(outer, 1), 1), row_threads(classes), outer, classes, x, y)
    else:
        kernel("softmax", "columns", dtype)(outer * inner, classes, inner, x, y)


def row_threads(length: int) -> int:
    """Return the number of threads for a row, a multiple of a warp."""
    return min(256, -(-max(length, 1) // 32) * 32)
