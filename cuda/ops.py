"""Algebra on device pointers, as layers need it: products of matrices, sums, and what is done element by element.

All pointers are addresses (``blob.gpu_data()``) or ``DeviceBuffer``s of ``dtype``; matrices are row-major without gaps;
everything is queued on the computing stream. ``n`` is a number of elements. Results are the same in every run: sums are
added in a fixed order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from minicaffe.cuda import context, memory
from minicaffe.cuda.kernels import BLOCK, kernel
from minicaffe.cuda.memory import DeviceBuffer

Pointer = Any  # an int, or anything with __index__
_SUM_BLOCKS = 128
_SLICE = 128  # the shortest slice of a product's inner length that is worth a block


def gemm(
    trans_a: bool,
    trans_b: bool,
    m: int,
    n: int,
    k: int,
    alpha: float,
    a: Pointer,
    b: Pointer,
    beta: float,
    c: Pointer,
    dtype: Any = np.float32,
) -> None:
    """C = alpha op(A) op(B) + beta C, with op(A) (m, k), op(B) (k, n), C (m, n); A is (k, m) when ``trans_a``."""
    gemm_batched(trans_a, trans_b, m, n, k, alpha, a, b, beta, c, dtype, 1, 0, 0, 0)


def gemm_batched(
    trans_a: bool,
    trans_b: bool,
    m: int,
    n: int,
    k: int,
    alpha: float,
    a: Pointer,
    b: Pointer,
    beta: float,
    c: Pointer,
    dtype: Any,
    batch: int,
    step_a: int,
    step_b: int,
    step_c: int,
) -> None:
    """``batch`` products at once; operand i begins i * step elements after the first (a step of 0 shares it)."""
    if not (m and n and batch):
        return
    dtype = np.dtype(dtype)
    options = context.math_options(dtype)
    slices, length = _slices(m, n, k, batch)
    if slices > 1:
        shares, add = (kernel("gemm", name, dtype, options) for name in ("gemm_slices", "add_slices"))
        grid = (-(-n // 64) * -(-m // 64) * slices, 1)
        with scratch(slices * m * n * dtype.itemsize) as partial:
            shares.launch(grid, 256, trans_a, trans_b, m, n, k, length, a, b, partial)
            add(m * n, slices, alpha, partial, beta, c)
        return
    tile = _tile(m, n, batch, dtype)
    multiply = kernel("gemm", f"gemm_{tile}", dtype, options)
    grid = (-(-n // tile) * -(-m // tile) * batch, 1)
    multiply.launch(grid, 256, trans_a, trans_b, m, n, k, alpha, a, b, beta, c, step_a, step_b, step_c)


def _tile(m: int, n: int, batch: int, dtype: np.dtype) -> int:
    """128 where tiles of that size are enough to keep the device busy: they read each operand half as often."""
    large = -(-m // 128) * -(-n // 128) * batch
    return 128 if dtype == np.float32 and min(m, n) > 64 and large >= context.current().multiprocessors else 64


def _slices(m: int, n: int, k: int, batch: int) -> tuple[int, int]:
    """How many slices to cut k into, and their length: more than one where the tiles of one product leave the device
    idle and k is long (the last layers of a net, and the gradient of any layer's weights)."""
    tiles = -(-m // 64) * -(-n // 64)
    slices = min(context.current().multiprocessors // tiles, k // _SLICE)
    if batch > 1 or slices < 2:
        return 1, k
    length = -(-k // slices // 16) * 16
    return -(-k // length), length


def gemv(
    trans: bool, m: int, n: int, alpha: float, a: Pointer, x: Pointer, beta: float, y: Pointer, dtype: Any = np.float32
) -> None:
    """y = alpha A x + beta y with A (m, n), or y = alpha A^T x + beta y when ``trans``."""
    if trans:
        if n:
            kernel("gemm", "gemv_columns", dtype).launch((-(-n // 32), 1), (32, 8, 1), m, n, alpha, a, x, beta, y)
    elif m:
        threads = 256 if n > 512 else 64 if n > 64 else 32
        kernel("gemm", "gemv_rows", dtype).launch((m, 1), threads, n, alpha, a, x, beta, y)


def axpy(n: int, alpha: float, x: Pointer, y: Pointer, dtype: Any = np.float32) -> None:
    """y += alpha x."""
    kernel("ops", "axpy", dtype)(n, alpha, x, y)


def axpby(n: int, alpha: float, x: Pointer, beta: float, y: Pointer, dtype: Any = np.float32) -> None:
    """y = alpha x + beta y; y may hold anything when beta is 0."""
    kernel("ops", "axpby", dtype)(n, alpha, x, beta, y)


def scale(n: int, alpha: float, x: Pointer, y: Pointer | None = None, dtype: Any = np.float32) -> None:
    """y = alpha x; in place when y is not given."""
    kernel("ops", "scale", dtype)(n, alpha, x, x if y is None else y)


def fill(n: int, value: float, y: Pointer, dtype: Any = np.float32) -> None:
    """y = value, everywhere."""
    if value == 0:
        memory.fill_bytes(int(y), 0, n * np.dtype(dtype).itemsize)
    else:
        kernel("ops", "fill", dtype)(n, value, y)


def copy(n: int, x: Pointer, y: Pointer, dtype: Any = np.float32) -> None:
    """y = x; nothing when they are the same memory."""
    memory.copy_on_device(int(y), int(x), n * np.dtype(dtype).itemsize)


def add(n: int, a: Pointer, b: Pointer, y: Pointer, dtype: Any = np.float32) -> None:
    """y = a + b."""
    kernel("ops", "add", dtype)(n, a, b, y)


def sub(n: int, a: Pointer, b: Pointer, y: Pointer, dtype: Any = np.float32) -> None:
    """y = a - b."""
    kernel("ops", "sub", dtype)(n, a, b, y)


def mul(n: int, a: Pointer, b: Pointer, y: Pointer, dtype: Any = np.float32) -> None:
    """y = a b, element by element."""
    kernel("ops", "mul", dtype)(n, a, b, y)


def sum(n: int, x: Pointer, dtype: Any = np.float32, out: Pointer | None = None, alpha: float = 1.0) -> float | None:
    """alpha times the sum of x: into the element ``out`` on the device, or, without it, as a float (which waits)."""
    return _reduce(0, n, x, x, dtype, out, alpha)


def asum(n: int, x: Pointer, dtype: Any = np.float32, out: Pointer | None = None, alpha: float = 1.0) -> float | None:
    """alpha times the sum of |x|; see ``sum``."""
    return _reduce(1, n, x, x, dtype, out, alpha)


def dot(
    n: int, x: Pointer, y: Pointer, dtype: Any = np.float32, out: Pointer | None = None, alpha: float = 1.0
) -> float | None:
    """alpha times the sum of x y; see ``sum``."""
    return _reduce(2, n, x, y, dtype, out, alpha)


def _reduce(kind: int, n: int, x: Pointer, y: Pointer, dtype: Any, out: Pointer | None, alpha: float) -> float | None:
    dtype = np.dtype(dtype)
    blocks = min(-(-n // BLOCK), _SUM_BLOCKS) or 1
    sums, total = (kernel("ops", name, dtype) for name in ("partial_sums", "total"))
    with scratch((_SUM_BLOCKS + 1) * dtype.itemsize) as partial:
        target = int(partial) + _SUM_BLOCKS * dtype.itemsize if out is None else out
        sums.launch((blocks, 1), BLOCK, n, kind, x, y, partial)
        total.launch((1, 1), _SUM_BLOCKS, blocks, alpha, partial, target)
        return float(memory.copy_to_host(np.empty(1, dtype), target)[0]) if out is None else None


@contextlib.contextmanager
def scratch(nbytes: int) -> Iterator[DeviceBuffer]:
    """Room for partial sums, used in turn on one stream: what is queued inside, no other thread comes between."""
    device = context.current()
    with device.lock:
        kept = device.cache.get("scratch")
        if kept is None or kept.nbytes < nbytes:
            kept = device.cache["scratch"] = DeviceBuffer(max(nbytes, 2 * kept.nbytes if kept else 4096))
        yield kept
