"""Linear algebra on device pointers for the layers: matrix products, reductions and elementwise operations.

All pointers are addresses (``blob.gpu_data()``) or ``DeviceBuffer``s with elements of ``dtype`` (float32 by default, or
float64); matrices are row-major and contiguous; all work is queued on the compute stream. ``n`` is the number of
elements. Results are reproducible: sums are added in a fixed order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from minicaffe.cuda import context, memory
from minicaffe.cuda.kernels import BLOCK, PACK, kernel
from minicaffe.cuda.memory import DeviceBuffer

Pointer = Any  # an int, or anything with __index__
_SUM_BLOCKS = 128
_SLICE = 128  # minimum length of the slices into which the inner dimension of a product is split


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
    """C = alpha op(A) op(B) + beta C, with op(A) (m, k), op(B) (k, n), C (m, n).

    trans_a, trans_b: if True, A is stored as (k, m), or B as (n, k), and op transposes it.
    """
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
    """Compute ``batch`` products as in ``gemm``.

    step_a, step_b, step_c: distance in elements between the operands of successive products; 0 uses one for all.
    """
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
    """Return the tile size: 128 if such tiles occupy all multiprocessors (reading operands half as often), else 64."""
    large = -(-m // 128) * -(-n // 128) * batch
    return 128 if dtype == np.float32 and min(m, n) > 64 and large >= context.current().multiprocessors else 64


def _slices(m: int, n: int, k: int, batch: int) -> tuple[int, int]:
    """Return the number and length of the slices into which k is split.

    More than one if k is long and the tiles of the product do not occupy all multiprocessors, as for the last layers of
    a net and for gradients of weights.
    """
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
    kernel("ops", "axpy", dtype)(n, alpha, x, y, each=PACK)


def axpby(n: int, alpha: float, x: Pointer, beta: float, y: Pointer, dtype: Any = np.float32) -> None:
    """y = alpha x + beta y; y is not read if beta is 0."""
    kernel("ops", "axpby", dtype)(n, alpha, x, beta, y, each=PACK)


def scale(n: int, alpha: float, x: Pointer, y: Pointer | None = None, dtype: Any = np.float32) -> None:
    """y = alpha x; in place if y is None (default)."""
    kernel("ops", "scale", dtype)(n, alpha, x, x if y is None else y, each=PACK)


def fill(n: int, value: float, y: Pointer, dtype: Any = np.float32) -> None:
    """Set all elements of y to ``value``."""
    if value == 0:
        memory.fill_bytes(int(y), 0, n * np.dtype(dtype).itemsize)
    else:
        kernel("ops", "fill", dtype)(n, value, y, each=PACK)


def copy(n: int, x: Pointer, y: Pointer, dtype: Any = np.float32) -> None:
    """y = x; no-op if both are the same address."""
    memory.copy_on_device(int(y), int(x), n * np.dtype(dtype).itemsize)


def add(n: int, a: Pointer, b: Pointer, y: Pointer, dtype: Any = np.float32) -> None:
    """y = a + b."""
    kernel("ops", "add", dtype)(n, a, b, y, each=PACK)


def sub(n: int, a: Pointer, b: Pointer, y: Pointer, dtype: Any = np.float32) -> None:
    """y = a - b."""
    kernel("ops", "sub", dtype)(n, a, b, y, each=PACK)


def mul(n: int, a: Pointer, b: Pointer, y: Pointer, dtype: Any = np.float32) -> None:
    """y = a b, elementwise."""
    kernel("ops", "mul", dtype)(n, a, b, y, each=PACK)


def sum(n: int, x: Pointer, dtype: Any = np.float32, out: Pointer | None = None, alpha: float = 1.0) -> float | None:
    """Compute alpha times the sum of x.

    out: device pointer to the element that receives the result; if None (default), the result is returned as a float,
        after synchronizing with the device.
    """
    return _reduce(0, n, x, x, dtype, out, alpha)


def asum(n: int, x: Pointer, dtype: Any = np.float32, out: Pointer | None = None, alpha: float = 1.0) -> float | None:
    """Compute alpha times the sum of |x|; ``out`` as in ``sum``."""
    return _reduce(1, n, x, x, dtype, out, alpha)


def dot(
    n: int, x: Pointer, y: Pointer, dtype: Any = np.float32, out: Pointer | None = None, alpha: float = 1.0
) -> float | None:
    """Compute alpha times the sum of x y; ``out`` as in ``sum``."""
    return _reduce(2, n, x, y, dtype, out, alpha)


def _reduce(kind: int, n: int, x: Pointer, y: Pointer, dtype: Any, out: Pointer | None, alpha: float) -> float | None:
    dtype = np.dtype(dtype)
    blocks = min(-(-n // (PACK * BLOCK)), _SUM_BLOCKS) or 1
    with scratch((_SUM_BLOCKS + 1) * dtype.itemsize) as partial:
        target = int(partial) + _SUM_BLOCKS * dtype.itemsize if out is None else out
        arguments = n, kind, alpha, x, y, partial, tickets(1), target
        kernel("ops", "sum", dtype).launch((blocks, 1), BLOCK, *arguments)
        return float(memory.copy_to_host(np.empty(1, dtype), target)[0]) if out is None else None


@contextlib.contextmanager
def scratch(nbytes: int) -> Iterator[DeviceBuffer]:
    """Lend the device's scratch buffer, of at least ``nbytes``, holding the device's lock.

    The lock keeps other threads from queueing work on the buffer between that of the ``with`` block.
    """
    device = context.current()
    with device.lock:
        kept = device.cache.get("scratch")
        if kept is None or kept.nbytes < nbytes:
            kept = device.cache["scratch"] = DeviceBuffer(max(nbytes, 2 * kept.nbytes if kept else 4096))
        yield kept


def tickets(count: int) -> DeviceBuffer:
    """Return the device's counters for `last_block` of common.cuh, at least ``count``; all are 0 between launches.

    Kernels run one after another, so all share them; each launch leaves zeros.
    """
    device = context.current()
    with device.lock:
        kept = device.cache.get("tickets")
        if kept is None or kept.nbytes < 4 * count:
            kept = device.cache["tickets"] = DeviceBuffer(max(4 * count, 2 * kept.nbytes if kept else 4096))
            memory.fill_bytes(int(kept), 0, kept.nbytes)
        return kept
