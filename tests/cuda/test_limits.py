"""Element counts and grids at and above the limits of kernel launches."""

import numpy as np
import pytest

from minicaffe.cuda import kernels, ops
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.errors import DeviceError

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda_device")]

MOST = (1 << 31) - 1


def upload(array):
    buffer = DeviceBuffer(array.nbytes)
    buffer.from_host(array)
    return buffer


@pytest.mark.parametrize("m, n, k", [(400, 5, 7), (5, 400, 7), (200, 200, 3), (70, 3, 600)])
@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("trans_b", [False, True])
def test_products_of_many_tiles(monkeypatch, m, n, k, trans_a, trans_b):
    monkeypatch.setenv("EMU_GRID_LIMIT", "1")
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n)))
    c = DeviceBuffer(4 * m * n)
    ops.gemm(trans_a, trans_b, m, n, k, 1, upload(a.T if trans_a else a), upload(b.T if trans_b else b), 0, c)
    np.testing.assert_allclose(c.to_host(np.empty((m, n), np.float32)), a @ b, atol=1e-3)


def test_many_products_at_once(monkeypatch):
    monkeypatch.setenv("EMU_GRID_LIMIT", "1")
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((5, 70, 3), (5, 3, 80)))
    c = DeviceBuffer(4 * 5 * 70 * 80)
    ops.gemm_batched(False, False, 70, 80, 3, 1, upload(a), upload(b), 0, c, np.float32, 5, 210, 240, 5600)
    np.testing.assert_allclose(c.to_host(np.empty((5, 70, 80), np.float32)), a @ b, atol=1e-5)


@pytest.mark.parametrize("loop", ["GRID_STRIDE(i, n)", "BLOCK_STRIDE(i, n)", "STRIDE(i, (int)threadIdx.x, n, 100)"])
@pytest.mark.parametrize("n", [MOST, MOST - 1, MOST - 255, MOST - 100_000, 1000, 1, 0])
def test_loops_end_at_any_count(loop, n):
    """Each thread jumps to its last index; the next increment must end the loop without overflow."""
    stem = f"test_limits/{loop.split('(')[0]}"
    step = {"GRID": "blockDim.x * gridDim.x", "BLOC": "blockDim.x"}.get(loop[:4], "100u")
    kernels.define(
        stem,
        f"""__global__ void jump(const int n, int *seen) {{
      {loop} {{
        if (i < 0) {{ seen[2] = 1; return; }}
        i += (n - 1 - i) / ({step}) * ({step});
        atomicAdd(seen, 1);
        atomicMax(seen + 1, i);
      }}
    }}""",
    )
    seen = upload(np.array([0, -1, 0], np.int32))
    kernels.kernel(stem, "jump").launch((1 if "GRID" not in loop else 3, 1), 256, n, seen)
    threads = 768 if "GRID" in loop else 256
    assert seen.to_host(np.empty(3, np.int32)).tolist() == [min(threads, n), n - 1, 0]


@pytest.mark.parametrize(
    "work, message",
    [
        (lambda b: ops.fill(MOST + 1, 1.0, b), "kernel ops.fill takes n of at most 2147483647, got 2147483648"),
        (lambda b: ops.sum(MOST + 1, b), "kernel ops.sum takes n of at most 2147483647, got 2147483648"),
        (
            lambda b: ops.gemm(False, False, MOST + 1, 8, 4, 1, b, b, 0, b),
            r"kernel gemm.gemm_\w+ takes m of at most 2147483647, got 2147483648",
        ),
        (
            lambda b: ops.gemm(False, False, MOST, 1 << 20, 4, 1, b, b, 0, b),
            "takes count of at most 2147483647, got 137438953472",
        ),
        (
            lambda b: ops.gemv(False, MOST + 1, 4, 1, b, b, 0, b),
            "kernel gemm.gemv_rows takes a number of blocks of at most 2147483647, got 2147483648",
        ),
    ],
)
def test_what_is_too_large_is_refused_in_a_sentence(work, message):
    with pytest.raises(DeviceError, match=f"{message}: a blob is too large for the GPU engine$"):
        work(DeviceBuffer(1024))


def test_other_mistakes_stay_what_they_are():
    buffer = DeviceBuffer(16)
    with pytest.raises(Exception, match="not a float"):
        ops.axpy(4, "a", buffer, buffer)
