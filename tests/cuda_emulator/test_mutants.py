"""Kernels with one fault each: EMU_RACE=1 reports it, and nothing in the kernel without the fault."""

import functools
from typing import NamedTuple

import numpy as np
import pytest

from helpers.emulator import on_device, run
from minicaffe.cuda import context, kernels, sources
from minicaffe.cuda.memory import DeviceBuffer

pytestmark = pytest.mark.gpu

COMMON = sources.HERE.joinpath("common.cuh").read_text()
INSTRUCTIONS = sources.HERE.joinpath("instructions.cuh").read_text()


class Mutant(NamedTuple):
    text: str  # of the kernel k(const float *x, float *out, int n), without a fault
    right: str
    wrong: str  # what replaces `right`
    report: str
    grid: int = 1
    block: int = 256


SUM_TWICE = """__global__ void k(const float *x, float *out, int n) {
  out[threadIdx.x] = block_sum(x[threadIdx.x]);
  out[threadIdx.x] += block_sum(x[n - 1 - threadIdx.x]);
}"""
HISTOGRAM = """__global__ void k(const float *x, float *out, int n) {
  __shared__ int bins[4];
  if (threadIdx.x < 4) bins[threadIdx.x] = 0;
  __syncthreads();
  BLOCK_STRIDE(i, n) atomicAdd(&bins[i % 4], 1);
  __syncthreads();
  if (threadIdx.x < 4) out[threadIdx.x] = bins[threadIdx.x];
}"""
ADD_SLICES = """__global__ void k(const float *x, float *out, int n) {
  GRID_STRIDE(i, n / 4) {
    float sum = 0;
    for (int slice = 0; slice < 4; slice++) sum += x[slice * (n / 4) + i];
    out[i] += sum;
  }
}"""
ACCUMULATE = """__global__ void k(const float *x, float *out, int n) {
  float sum = 0;
  GRID_STRIDE(i, n) sum += x[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) atomicAdd(out, sum);
}"""
TRANSPOSE = """__global__ void k(const float *x, float *out, int n) {
  __shared__ float tile[16][17];
  tile[threadIdx.x / 16][threadIdx.x % 16] = x[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x % 16][threadIdx.x / 16];
}"""
LAST_BLOCK = """__global__ void k(const float *x, float *out, int n) {
  const float sum = block_sum(x[blockIdx.x * blockDim.x + threadIdx.x]);
  if (threadIdx.x == 32) out[blockIdx.x] = sum;
  if (!last_block((unsigned *)out + 100, gridDim.x)) return;
  if (threadIdx.x < gridDim.x) out[200 + threadIdx.x] = 2 * out[threadIdx.x];
}"""
NEIGHBOURS = """__global__ void k(const float *x, float *out, int n) {
  __shared__ float row[32];
  for (int i = threadIdx.x; i < n; i += 32) {
    row[threadIdx.x] = x[i];
    __syncwarp();
    out[i] = row[31 - threadIdx.x];
    __syncwarp(0xffffffffu);
  }
}"""
BYTES = """__global__ void k(const float *x, float *out, int n) {
  ((unsigned char *)out)[threadIdx.x] = threadIdx.x;
}"""
VECTORS = """__global__ void k(const float *x, float *out, int n) {
  ((float4 *)out)[threadIdx.x] = ((const float4 *)x)[threadIdx.x];
}"""
STAGES = """__global__ void k(const float *x, float *out, int n) {
  __shared__ __align__(16) float stages[3][128];
  const int t = threadIdx.x;
  auto fetch = [&](int i) {
    copy_async<16>(&stages[i % 3][t * 4], &x[(i < 8 ? i : 0) * 128 + t * 4], i < 8);
    copies_commit();
  };
  fetch(0);
  fetch(1);
  for (int i = 0; i < 8; i++) {
    copies_wait<1>();
    __syncthreads();
    fetch(i + 2);
    float sum = 0;
    for (int j = 0; j < 128; j++) sum += stages[i % 3][j];
    out[i * 32 + t] = sum;
  }
}"""
BEFORE_TICKET = "  __threadfence();\n  __syncthreads();\n  if (threadIdx.x == 0 &&"
AFTER_TICKET = "  __syncthreads();\n  __threadfence();\n  return last;"

MUTANTS = {
    "block_sum without its first barrier": Mutant(
        COMMON + SUM_TWICE,
        "__syncthreads();  // the values of an earlier call may still be read",
        "",
        "a read of shared",
    ),
    "accumulation in shared memory": Mutant(
        COMMON + HISTOGRAM, "atomicAdd(&bins[i % 4], 1)", "bins[i % 4] += 1", "shared memory by thread"
    ),
    "all blocks add to one element": Mutant(COMMON + ADD_SLICES, "out[i] +=", "out[0] +=", "a write of device", 1, 64),
    "all blocks add to one element, one thread each": Mutant(
        COMMON + ADD_SLICES, "out[i] +=", "if (threadIdx.x == 0) out[0] +=", "with no order of the blocks", 4, 64
    ),
    "eight blocks accumulate": Mutant(
        COMMON + ACCUMULATE, "atomicAdd(out, sum)", "out[0] += sum", "a write of device", 8, 128
    ),
    "a row too few": Mutant(TRANSPOSE, "tile[16][17]", "tile[15][17]", "index 15 of an array of type 'float [15][17]'"),
    "a column too few": Mutant(TRANSPOSE, "tile[16][17]", "tile[16][15]", "index 15 of an array of type 'float [15]'"),
    "no barrier before a tile is read": Mutant(TRANSPOSE, "__syncthreads();", "", "shared memory by thread"),
    "no fence before the ticket": Mutant(
        COMMON + LAST_BLOCK, BEFORE_TICKET, BEFORE_TICKET[BEFORE_TICKET.index("\n") :], "no order of the blocks", 8
    ),
    "no barrier before the ticket": Mutant(
        COMMON + LAST_BLOCK, BEFORE_TICKET, BEFORE_TICKET.replace("__syncthreads();", ""), "no order of the blocks", 8
    ),
    "no fence after the ticket": Mutant(
        COMMON + LAST_BLOCK, AFTER_TICKET, AFTER_TICKET.replace("__threadfence();", ""), "no order of the blocks", 8
    ),
    "no order within a warp": Mutant(NEIGHBOURS, "__syncwarp();", "", "shared memory by thread", 1, 32),
    "a row written before its warp has read it": Mutant(
        NEIGHBOURS, "__syncwarp(0xffffffffu);", "", "shared memory by thread", 1, 32
    ),
    "threads write the same byte": Mutant(BYTES, ")[threadIdx.x]", ")[threadIdx.x / 2]", "a write of device"),
    "vectors at odd places": Mutant(
        VECTORS, "(const float4 *)x)", "(const float4 *)(x + 1))", "not a multiple of 16", 1, 32
    ),
    "an index past the end": Mutant(
        VECTORS,
        "((float4 *)out)[threadIdx.x]",
        "((float4 *)out)[n / 4 + threadIdx.x]",
        "past the end of an allocation",
        1,
        32,
    ),
    "a copy that is not waited for": Mutant(
        INSTRUCTIONS + STAGES,
        "copies_wait<1>();\n    __syncthreads();",
        "__syncthreads();",
        "with no wait for the copy between",
        1,
        32,
    ),
    "no barrier after the wait for copies": Mutant(
        INSTRUCTIONS + STAGES,
        "copies_wait<1>();\n    __syncthreads();",
        "copies_wait<1>();",
        "shared memory by thread",
        1,
        32,
    ),
    "a stage too few": Mutant(
        INSTRUCTIONS + STAGES, "fetch(i + 2);", "fetch(i + 3);", "shared memory by thread", 1, 32
    ),
}


@functools.cache
def compiled(text):
    """The code of a text; EMU_RACE is set."""
    definitions = kernels.definitions(np.dtype(np.float32))
    return kernels.compiler().compile(text.replace("__global__", 'extern "C" __global__'), "k.cu", "sm_90", definitions)


@pytest.fixture
def watched(emulated, monkeypatch):
    """Return a function that launches a kernel compiled to detect races and index faults."""
    monkeypatch.setenv("EMU_RACE", "1")
    modules = []

    def launch(text, grid, block):
        modules.append(emulated.driver.module_from_buffer(compiled(text)))
        x, out = on_device(np.arange(2048, dtype=np.float32)), DeviceBuffer(8192)
        out.zero()
        run(modules[-1].get_function("k").prepare("PPi"), (grid, 1), (block, 1, 1), x, out, 2048)
        context.synchronize()

    return launch


@pytest.mark.parametrize("name", MUTANTS)
def test_the_fault_is_reported(watched, emulated, capfd, thread_order, name):
    text, right, wrong, report, grid, block = MUTANTS[name]
    assert text.count(right) == 1
    watched(text, grid, block)
    assert "emulated GPU" not in capfd.readouterr().err
    with pytest.raises(emulated.driver.Error):
        watched(text.replace(right, wrong), grid, block)
    printed = capfd.readouterr().err
    assert report in printed
    assert "in kernel k of k.cu" in printed
