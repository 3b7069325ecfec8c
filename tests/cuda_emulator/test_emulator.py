"""The emulated driver runs CUDA code as a device does, and detects errors that a device does not report."""

import os
import threading

import numpy as np
import pytest

from helpers.emulator import floats, run
from minicaffe.cuda import context, graph, kernels, memory
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.errors import DeviceError

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("emulated")]


def both_orders(monkeypatch, launch):
    """Return the results of a launch with the threads in either order."""
    results = []
    for order in ("0", "1"):
        monkeypatch.setenv("EMU_REVERSE", order)
        results.append(launch())
    return results


def test_indices_cover_grid_and_block(build):
    k = build(
        """__global__ void k(int *out) {
      int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
      int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
      out[block * blockDim.x * blockDim.y * blockDim.z + thread] = 100 * block + thread;
    }""",
        "P",
    )
    out = DeviceBuffer(4 * 12 * 30)
    run(k, (2, 3, 2), (5, 3, 2), out)
    expected = 100 * np.arange(12)[:, None] + np.arange(30)
    assert (out.to_host(np.empty((12, 30), np.int32)) == expected).all()


REVERSAL = """__global__ void k(float *x) {
  __shared__ float tile[64];
  tile[threadIdx.x] = x[threadIdx.x];
  %s
  x[threadIdx.x] = tile[63 - threadIdx.x];
}"""


@pytest.mark.parametrize("barrier, right", [("__syncthreads();", True), ("", False)])
def test_a_missing_barrier_shows_in_one_order_or_the_other(build, monkeypatch, barrier, right):
    k = build(REVERSAL % barrier, "P")
    values = np.arange(64, dtype=np.float32)

    def launch():
        x = DeviceBuffer(256)
        x.from_host(values)
        run(k, (1, 1), (64, 1, 1), x)
        return (floats(x, 64) == values[::-1]).all()

    assert all(both_orders(monkeypatch, launch)) == right


def test_a_barrier_that_some_never_reach_fails(build, emulated, capfd):
    k = build("__global__ void k() { if (threadIdx.x < 7) __syncwarp(); else __syncthreads(); }", "")
    with pytest.raises(emulated.driver.Error):
        run(k, (1, 1), (64, 1, 1))
    assert "some threads wait at a barrier that others never reach" in capfd.readouterr().err


def test_threads_that_have_ended_are_not_waited_for(build):
    k = build(
        """__global__ void k(float *x) {
      if (threadIdx.x >= 40) return;
      __syncthreads();
      x[threadIdx.x] = threadIdx.x;
    }""",
        "P",
    )
    x = DeviceBuffer(160)
    run(k, (1, 1), (64, 1, 1), x)
    assert (floats(x, 40) == np.arange(40)).all()


@pytest.mark.parametrize("access", ["x[n] = 1", "out[0] = x[n]"])
@pytest.mark.parametrize("n", [12, 1000, -2000])
def test_an_access_outside_fails_and_names_the_kernel(build, emulated, capfd, access, n):
    k = build(f"__global__ void k(float *x, float *out, int n) {{ {access}; }}", "PPi")
    x, out = DeviceBuffer(48), DeviceBuffer(4)
    with pytest.raises(emulated.driver.Error):
        run(k, (1, 1), (1, 1, 1), x, out, n)
    printed = capfd.readouterr().err
    where = "before the start of" if n < 0 else "past the end of"
    assert f"{where} an allocation of 48 bytes" in printed and "in kernel k" in printed
    run(k, (1, 1), (1, 1, 1), x, out, 11)  # the next launch works


def test_a_write_into_the_last_bytes_before_a_page_is_noticed(build, emulated, capfd):
    k = build("__global__ void k(char *x, int n) { x[n] = 1; }", "Pi")
    x = DeviceBuffer(41)
    with pytest.raises(emulated.driver.Error):
        run(k, (1, 1), (1, 1, 1), x, 41)
    assert "1 bytes past the end of an allocation of 41 bytes" in capfd.readouterr().err
    run(k, (1, 1), (1, 1, 1), x, 40)


@pytest.fixture(params=["0", "1"], ids=["no pool", "pool"])
def pool(request, emulated, monkeypatch):
    monkeypatch.setenv("MINICAFFE_DEVICE_POOL", request.param)
    return request.param == "1"


def gone(nbytes):
    """Return the address of memory that has been freed or returned to the pool."""
    return DeviceBuffer(nbytes).ptr


WORK = {
    "in kernel k": lambda k, at: run(k, (1, 1), (1, 1, 1), at),
    "in a copy of 8 bytes": lambda k, at: memory.copy_to_host(np.empty(2, np.float32), at),
    "in a fill of 8 bytes": lambda k, at: memory.fill_bytes(at, 1, 8),
}


@pytest.mark.parametrize("what", WORK)
def test_memory_that_was_given_back_cannot_be_touched(build, emulated, capfd, pool, what):
    k = build("__global__ void k(float *x) { x[1] += 1; }", "P")
    with pytest.raises(emulated.driver.Error):
        WORK[what](k, gone(48))
    printed = capfd.readouterr().err
    way = "given back to a pool" if pool else "freed"
    assert f"of an allocation of 48 bytes that was {way} before" in printed
    assert what in printed
    x = DeviceBuffer(48)  # in the pool this is the same memory
    assert np.isnan(floats(x, 12)).all()
    run(k, (1, 1), (1, 1, 1), x)


def test_a_graph_cannot_touch_memory_that_was_given_back(build, emulated, pool):
    k, x = build("__global__ void k(float *x) { x[0] = 1; }", "P"), DeviceBuffer(48)
    step = graph.CapturedStep(lambda: run(k, (1, 1), (1, 1, 1), at))
    at = x.ptr  # an integer, which does not keep the buffer alive
    step(), step()
    del x
    with pytest.raises(DeviceError, match="cuGraphLaunch failed: CUDA_ERROR_ILLEGAL_ADDRESS"):
        step()


def test_addresses_are_never_used_twice(emulated):
    addresses = [gone(100_000) for _ in range(100)]
    assert len(set(addresses)) == 100


def test_what_a_capture_forbids(emulated):
    x = DeviceBuffer(16)
    with context.recording() as stream:
        graph._call("cuStreamBeginCapture", int(stream.handle), graph._driver().CUstreamCaptureMode(1))
        refused = [
            graph._driver().cuMemFree(x.ptr),
            graph._driver().cuMemAlloc(16),
            graph._driver().cuCtxSynchronize(),
            graph._driver().cuStreamSynchronize(int(stream.handle)),
        ]
        in_a_thread = []
        thread = threading.Thread(target=lambda: in_a_thread.append(graph._driver().cuCtxSynchronize()))
        thread.start()
        thread.join()
        graph._call("cuStreamEndCapture", int(stream.handle))
    assert {str(result[0].name) for result in (*refused, *in_a_thread)} == {"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"}


def test_a_smaller_grid_can_be_asked_for(build, emulated, monkeypatch):
    k = build("__global__ void k() {}", "")
    monkeypatch.setenv("EMU_GRID_LIMIT", "3")
    run(k, (5, 3, 3), (1, 1, 1))
    for grid in ((1, 4, 1), (1, 1, 4)):
        with pytest.raises(emulated.driver.Error):
            run(k, grid, (1, 1, 1))


def test_fresh_memory_is_not_a_number():
    assert np.isnan(floats(DeviceBuffer(400), 100)).all()


def test_warp_functions(build, monkeypatch):
    k = build(
        """__global__ void k(int *out) {
      int lane = threadIdx.x % 32, i = threadIdx.x;
      out[i] = __shfl_sync(~0u, i, 5);
      out[64 + i] = __shfl_xor_sync(~0u, i, 3);
      out[128 + i] = __shfl_down_sync(~0u, i, 4);
      out[192 + i] = __shfl_up_sync(~0u, i, 1, 8);
      out[256 + i] = __ballot_sync(~0u, lane % 3 == 0);
      out[320 + i] = __any_sync(~0u, lane == 31) + 2 * __all_sync(~0u, lane < 31);
    }""",
        "P",
    )
    lane, i = np.arange(64) % 32, np.arange(64)
    expected = [
        i - lane + 5,
        i ^ 3,
        np.where(lane < 28, i + 4, i),
        np.where(lane % 8 == 0, i, i - 1),
        np.full(64, sum(1 << b for b in range(0, 32, 3))),
        np.full(64, 1),
    ]

    def launch():
        out = DeviceBuffer(4 * 384)
        run(k, (1, 1), (64, 1, 1), out)
        return out.to_host(np.empty((6, 64), np.int32))

    for got in both_orders(monkeypatch, launch):
        assert (got == np.array(expected)).all()


def test_dynamic_shared_memory_and_atomics(build):
    k = build(
        """__global__ void k(const int n, const int *x, int *count) {
      extern __shared__ int bins[];
      if (threadIdx.x < 10) bins[threadIdx.x] = 0;
      __syncthreads();
      for (int i = threadIdx.x; i < n; i += blockDim.x) atomicAdd(&bins[x[i]], 1);
      __syncthreads();
      if (threadIdx.x < 10) atomicAdd(&count[threadIdx.x], bins[threadIdx.x]);
    }""",
        "iPP",
    )
    values = np.random.default_rng(0).integers(0, 10, 1000).astype(np.int32)
    x, count = DeviceBuffer(4000), DeviceBuffer(40)
    x.from_host(values)
    count.zero()
    run(k, (1, 1), (128, 1, 1), 1000, x, count, shared=40)
    assert (count.to_host(np.empty(10, np.int32)) == np.bincount(values, minlength=10)).all()


def test_vectors_and_bits(build):
    k = build(
        """__global__ void k(float4 *x, unsigned *bits) {
      float4 v = x[threadIdx.x];
      x[threadIdx.x] = make_float4(v.w, v.z, v.y, v.x);
      bits[threadIdx.x] = __float_as_uint(v.x) ^ __umulhi(0x80000000u, 2u * threadIdx.x);
    }""",
        "PP",
    )
    values = np.random.default_rng(1).standard_normal((8, 4)).astype(np.float32)
    x, bits = DeviceBuffer(values.nbytes), DeviceBuffer(32)
    x.from_host(values)
    run(k, (1, 1), (8, 1, 1), x, bits)
    assert (x.to_host(np.empty((8, 4), np.float32)) == values[:, ::-1]).all()
    expected = values[:, 0].copy().view(np.uint32) ^ np.arange(8, dtype=np.uint32)
    assert (bits.to_host(np.empty(8, np.uint32)) == expected).all()


@pytest.mark.parametrize("grid, block", [((0, 1), (32, 1, 1)), ((1, 65536), (32, 1, 1)), ((1, 1), (1025, 1, 1))])
def test_impossible_geometry_is_refused(build, emulated, grid, block):
    k = build("__global__ void k() {}", "")
    with pytest.raises(emulated.driver.Error):
        run(k, grid, block)


def test_code_for_a_real_gpu_is_refused(emulated):
    with pytest.raises(emulated.driver.Error):
        emulated.driver.module_from_buffer(b"\x7fELF" + bytes(2000))


def test_compiler_messages_carry_the_line(build):
    with pytest.raises(kernels.DeviceError, match=r"k\.cu:\d+:\d+: error: .*undeclared_name"):
        build("__global__ void k() { undeclared_name; }", "")


def test_a_cache_of_kernels_notices_a_changed_emulator():
    assert "emulated CUDA compiler" in kernels.compiler().version
    assert os.path.basename(os.environ["MINICAFFE_NVCC"]) == "compiler.py"
