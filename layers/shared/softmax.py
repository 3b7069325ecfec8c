"""The softmax along one axis of a blob, and the view (outer, length, inner) around that axis."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.blob import canonical_axis
from minicaffe.cuda.kernels import kernel, row_blocks

_MOST_BLOCKS = 4096


def three_axes(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """Return (outer, length, inner): the counts before, on and after an axis."""
    axis = canonical_axis(axis, len(shape))
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def softmax(x: np.ndarray, y: np.ndarray) -> None:
    """Write the softmax of x along axis 1 into y; both (outer, classes, ...)."""
    np.subtract(x, x.max(axis=1, keepdims=True, initial=np.finfo(x.dtype).min), out=y)
    np.exp(y, out=y)
    y /= y.sum(axis=1, keepdims=True)


def softmax_gpu(x: int, y: int, view: tuple[int, int, int], dtype: np.dtype) -> None:
    """`softmax` on the device."""
    outer, classes, inner = view
    grid, threads = row_geometry(view)
    kernel("softmax", "forward", dtype).launch(grid, threads, outer * inner, classes, inner, x, y)


def row_geometry(view: tuple[int, int, int]) -> tuple[tuple[int, int], int]:
    """Return grid and threads for the rows or columns of (outer, classes, inner), at least one block."""
    outer, classes, inner = view
    blocks, threads = row_blocks(outer, classes) if inner == 1 else (-(-outer * inner // 128), 128)
    return (max(1, min(blocks, _MOST_BLOCKS)), 1), threads
