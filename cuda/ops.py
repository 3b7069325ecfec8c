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

from minicaffe.cuda import context, memory, shares
from minicaffe.cuda.kernels import BLOCK, PACK, Kernel, kernel
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.split import Tile, choose

Pointer = Any  # an int, or anything with __index__
_SUM_BLOCKS = 128


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
    *,
    bias: Pointer = 0,
    slope: float | None = None,
    row_sums: Pointer = 0,
) -> None:
    """C = alpha op(A) op(B) + beta C, with op(A) (m, k), op(B) (k, n), C (m, n).

    trans_a, trans_b: if True, A is stored as (k, m), or B as (n, k), and op transposes it.
    bias: n numbers that are added to each row of C; with a slope, C is the ReLU of that.
    row_sums: m numbers to which the sums of op(A)'s rows are added; only with trans_a.
    """
    ends = (bias, slope is not None, slope or 0.0, row_sums)
    _gemm(trans_a, trans_b, (m, n, k), alpha, a, b, beta, c, np.dtype(dtype), ends, 1, (0, 0, 0))


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
    steps = step_a, step_b, step_c
    _gemm(trans_a, trans_b, (m, n, k), alpha, a, b, beta, c, np.dtype(dtype), (0, False, 0.0, 0), batch, steps)


def _gemm(trans_a, trans_b, sizes, alpha, a, b, beta, c, dtype, ends, batch, steps) -> None:
    m, n, k = sizes
    if not (m and n and batch):
        return
    if dtype == np.float32 and context.uses_tensor_cores():
        _tensor_gemm(trans_a, trans_b, sizes, alpha, a, b, beta, c, ends, batch, steps)
        return
    wide_a = _wide(dtype, a, m if trans_a else k, steps[0])
    wide_b = _wide(dtype, b, k if trans_b else n, steps[1])
    wide = wide_a and wide_b
    name, tile = _tile(m, n, k, batch, dtype, wide)
    multiply = kernel("gemm", name, dtype, _variant(trans_a, trans_b, wide))
    wide_c = n % 4 == 0 and _wide(dtype, c, n, steps[2])  # four columns are stored at once
    arguments = (m, n, k, alpha, a, b, beta, c, *ends, *steps, wide_c)
    count = tile.over(m, n) * batch
    launch_split(multiply, tile, count, tile.steps(k), dtype, *arguments, row_sums=trans_a)


def _variant(trans_a: bool, trans_b: bool, wide: bool) -> tuple[str, ...]:
    """The compiler's arguments for a kernel of gemm.cu or tensor_gemm.cu."""
    flags = {"TRANS_A": trans_a, "TRANS_B": trans_b, "WIDE_COPIES": wide}
    return tuple(f"-D{flag}={str(bool(value)).lower()}" for flag, value in flags.items())


def _tensor_gemm(trans_a, trans_b, sizes, alpha, a, b, beta, c, ends, batch, steps) -> None:
    """As `_gemm`, by tensor cores (``tensor_gemm.cu``)."""
    m, n, k = sizes
    single, row_sums = np.dtype(np.float32), ends[-1]
    wide = _wide(single, a, m if trans_a else k, steps[0]) and _wide(single, b, k if trans_b else n, steps[1])
    large = -(-m // 128) * -(-n // 128) * batch >= context.current().multiprocessors
    name, tile = ("gemm_128x128", shares.Tile(128, 128, 2)) if large else ("gemm_128x64", shares.Tile(128, 64, 3))
    grid = (-(-(n + bool(row_sums)) // tile.columns), -(-m // tile.rows), batch)  # row sums: a column of ones more
    multiply = kernel("tensor_gemm", name, single, _variant(trans_a, trans_b, wide))
    operands = (m, n, k, alpha, a, b, beta, c, *ends, *steps)
    launch_shares(multiply, tile, grid, -(-k // 32), operands)


def launch_shares(
    multiply: Kernel, tile: shares.Tile, grid: tuple[int, int, int], steps: int, before: tuple, after: tuple = ()
) -> None:
    """Queue a product of ``grid`` tiles of ``steps`` steps, by a kernel of tensor.cuh.

    Its parameters are the grid, those of ``before``, shares, span, partial, tickets, and those of ``after``.
    """
    tiles = grid[0] * grid[1] * grid[2]
    count = shares.choose(tiles, steps, context.current().multiprocessors * tile.resident)
    blocks, each = (tiles, count), {"shared": tile.shared}
    if count == 1:
        multiply.launch(blocks, shares.THREADS, *grid, *before, 1, 1, 0, 0, *after, **each)
        return
    counters = tickets(tiles * (-(-count // shares.SPAN) + 1))
    with scratch(tiles * count * tile.partial) as partial:
        split = (count, shares.SPAN, partial, counters)
        multiply.launch(blocks, shares.THREADS, *grid, *before, *split, *after, **each)


def launch_split(
    multiply: Kernel, tile: Tile, count: int, steps: int, dtype: np.dtype, *arguments: Any, row_sums: bool = False
) -> None:
    """Queue a product of ``count`` tiles of ``steps`` steps (``split``): a kernel of gemm.cuh.

    Its last parameters are count, share, parts and tickets; row_sums: whether its Sums have sums of rows.
    """
    share, blocks, _ = choose(tile, count, steps, dtype.itemsize, context.current().multiprocessors)
    if share % steps == 0:
        multiply.launch((blocks, 1), tile.threads, *arguments, count, share, 0, 0)
        return
    with scratch(2 * blocks * tile.sums(row_sums) * dtype.itemsize) as parts:
        multiply.launch((blocks, 1), tile.threads, *arguments, count, share, parts, tickets(8 * blocks))


def _wide(dtype: np.dtype, start: Pointer, line: int, step: int) -> bool:
    """Whether all lines of matrices begin at multiples of 16 bytes."""
    return not (int(start) % 16 or line * dtype.itemsize % 16 or step * dtype.itemsize % 16)


_TILES = {
    "gemm_128": Tile(128, 128, 8, 256, 100),
    "gemm_64": Tile(64, 64, 16, 64),
    "gemm_32x128": Tile(32, 128, 16, 64),
    "gemm_128x32": Tile(128, 32, 16, 64),
}


def _tile(m: int, n: int, k: int, batch: int, dtype: np.dtype, wide: bool) -> tuple[str, Tile]:
    """The kernel for a product, with its tile: the fastest by the model. Narrow tiles want wide copies."""
    processors = context.current().multiprocessors
    names = list(_TILES) if wide and dtype == np.float32 else ["gemm_128", "gemm_64"]

    def cycles(name: str) -> float:
        tile = _TILES[name]
        return choose(tile, tile.over(m, n) * batch, tile.steps(k), dtype.itemsize, processors).cycles

    best = min(names, key=cycles)
    return best, _TILES[best]


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
    kernel("ops", "axpy", dtype).packs(n, alpha, x, y)


def axpby(n: int, alpha: float, x: Pointer, beta: float, y: Pointer, dtype: Any = np.float32) -> None:
    """y = alpha x + beta y; y is not read if beta is 0."""
    kernel("ops", "axpby", dtype).packs(n, alpha, x, beta, y)


def scale(n: int, alpha: float, x: Pointer, y: Pointer | None = None, dtype: Any = np.float32) -> None:
    """y = alpha x; in place if y is None (default)."""
    kernel("ops", "scale", dtype).packs(n, alpha, x, x if y is None else y)


def limit(n: int, low: float, high: float, x: Pointer, dtype: Any = np.float32) -> None:
    """Limit x to [low, high], in place; nan stays."""
    kernel("ops", "limit", dtype).packs(n, low, high, x)


def fill(n: int, value: float, y: Pointer, dtype: Any = np.float32) -> None:
    """Set all elements of y to ``value``."""
    if value == 0:
        memory.fill_bytes(int(y), 0, n * np.dtype(dtype).itemsize)
    else:
        kernel("ops", "fill", dtype).packs(n, value, y)


def copy(n: int, x: Pointer, y: Pointer, dtype: Any = np.float32) -> None:
    """y = x; no-op if both are the same address."""
    memory.copy_on_device(int(y), int(x), n * np.dtype(dtype).itemsize)


def add(n: int, a: Pointer, b: Pointer, y: Pointer, dtype: Any = np.float32) -> None:
    """y = a + b."""
    kernel("ops", "add", dtype).packs(n, a, b, y)


def sub(n: int, a: Pointer, b: Pointer, y: Pointer, dtype: Any = np.float32) -> None:
    """y = a - b."""
    kernel("ops", "sub", dtype).packs(n, a, b, y)


def mul(n: int, a: Pointer, b: Pointer, y: Pointer, dtype: Any = np.float32) -> None:
    """y = a b, elementwise."""
    kernel("ops", "mul", dtype).packs(n, a, b, y)


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

    The kernels of all threads, and of replayed graphs, run one after another on the compute stream, so all share them;
    each launch leaves zeros. New counters are cleared on that stream: a capture would only record it.
    """
    device = context.current()
    with device.lock:
        kept = device.cache.get("tickets")
        if kept is None or kept.nbytes < 4 * count:
            kept = device.cache["tickets"] = DeviceBuffer(max(4 * count, 2 * kept.nbytes if kept else 4096))
            memory.fill_bytes(int(kept), 0, kept.nbytes, device.compute)
        return kept
