"""Asynchronous copies, fragments and products by tensor cores on the emulated device (cuda/instructions.cuh)."""

import numpy as np
import pytest

from helpers.emulator import floats, on_device, run
from minicaffe.cuda.memory import DeviceBuffer

pytestmark = pytest.mark.gpu

rng = np.random.default_rng(3)


def tf32(x):
    return (x.view(np.uint32) & 0xFFFFE000).view(np.float32)


def bf16(x):
    """The nearest bfloat16, as float32; ties to even."""
    bits = x.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)


# A is stored by rows, B by columns: load_matrices fetches fragments of both without transposing.
TF32 = """__global__ void k(const float *a, const float *b, float *c) {
  __shared__ __align__(16) float rows[16][8], columns[8][8];
  const int lane = threadIdx.x;
  for (int i = lane; i < 128; i += 32) rows[i / 8][i % 8] = a[i];
  for (int i = lane; i < 64; i += 32) columns[i / 8][i % 8] = b[i];
  __syncwarp();
  unsigned x[4], y[4];
  load_matrices(x, &rows[lane % 16][lane / 16 * 4]);
  load_matrices(y, &columns[lane % 8][lane / 8 % 2 * 4]);
  float sums[4] = {0, 0, 0, 1};
  multiply_tf32(sums, x, {y[0], y[1]});
  for (int e = 0; e < 4; e++) c[(lane / 4 + e / 2 * 8) * 8 + lane % 4 * 2 + e % 2] = sums[e];
}"""

# A and B are stored along k first: every fragment is transposed.
BF16 = """__global__ void k(const float *a, const float *b, float *c) {
  __shared__ __align__(16) unsigned rows[16][8], columns[16][4];  // [k][pairs]
  const int lane = threadIdx.x;
  for (int i = lane; i < 128; i += 32) rows[i / 8][i % 8] = pair_bf16(a[2 * i], a[2 * i + 1]);
  for (int i = lane; i < 64; i += 32) columns[i / 4][i % 4] = pair_bf16(b[2 * i], b[2 * i + 1]);
  __syncwarp();
  unsigned x[4], y[4];
  load_matrices_transposed(x, &rows[lane % 8 + lane / 16 * 8][lane / 8 % 2 * 4]);
  load_matrices_transposed(y, &columns[lane % 16][0]);
  float sums[4] = {0, 0, 0, 1};
  multiply_bf16(sums, x, {y[0], y[1]});
  for (int e = 0; e < 4; e++) c[(lane / 4 + e / 2 * 8) * 8 + lane % 4 * 2 + e % 2] = sums[e];
}"""


def ones_of_odd_places():
    """What the kernels' sums start from: 1 in the second row's half, odd columns."""
    start = np.zeros((16, 8), np.float32)
    start[8:, 1::2] = 1
    return start


def test_a_product_of_tf32(build, thread_order):
    a, b = rng.standard_normal((16, 8), np.float32), rng.standard_normal((8, 8), np.float32)  # b: [column][k]
    c = DeviceBuffer(512)
    run(build(TF32, "PPP"), (1, 1), (32, 1, 1), on_device(a), on_device(b), c)
    expected = tf32(a).astype(float) @ tf32(b).T + ones_of_odd_places()
    assert floats(c, 16, 8) == pytest.approx(expected, abs=1e-6)
    assert np.abs(expected - a.astype(float) @ b.T - ones_of_odd_places()).max() > 1e-4  # the lower bits are ignored


def test_a_product_of_bf16_from_transposed_fragments(build, thread_order):
    a, b = rng.standard_normal((16, 16), np.float32), rng.standard_normal((16, 8), np.float32)  # both: [k][..]
    c = DeviceBuffer(512)
    run(build(BF16, "PPP"), (1, 1), (32, 1, 1), on_device(a), on_device(b), c)
    expected = bf16(a).T.astype(float) @ bf16(b) + ones_of_odd_places()
    assert floats(c, 16, 8) == pytest.approx(expected, abs=1e-5)


def test_fragments_lie_as_documented(build):
    """Lane l receives in r[i] the 32 bits l % 4 of row l / 4 of matrix i; transposed, two elements of a column."""
    k = build(
        """__global__ void k(const unsigned *x, unsigned *out, unsigned *transposed) {
      __shared__ __align__(16) unsigned tile[32][4];
      const int lane = threadIdx.x;
      for (int i = 0; i < 4; i++) tile[lane][i] = x[lane * 4 + i];
      __syncwarp();
      unsigned r[4], t[4];
      load_matrices(r, tile[lane]);
      load_matrices_transposed(t, tile[lane]);
      for (int i = 0; i < 4; i++) out[i * 32 + lane] = r[i], transposed[i * 32 + lane] = t[i];
    }""",
        "PPP",
    )
    x = rng.integers(0, 1 << 16, (4, 8, 8), np.uint16)  # matrix, row, column
    out, transposed = DeviceBuffer(x.nbytes), DeviceBuffer(x.nbytes)
    run(k, (1, 1), (32, 1, 1), on_device(x), out, transposed)
    assert (out.to_host(np.empty_like(x)) == x).all()
    assert (transposed.to_host(np.empty_like(x)) == x.transpose(0, 2, 1)).all()


def test_rounding(build):
    k = build(
        """__global__ void k(const float *x, float *a, unsigned *b) {
      a[threadIdx.x] = rounded_tf32(x[threadIdx.x]);
      b[threadIdx.x] = pair_bf16(x[threadIdx.x], -x[threadIdx.x]);
    }""",
        "PPP",
    )
    special = [0, -0.0, np.inf, np.nan, 1 + 2**-11, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38]
    x = np.concatenate([np.array(special, np.float32), rng.standard_normal(24, np.float32)])
    a, b = DeviceBuffer(x.nbytes), DeviceBuffer(x.nbytes)
    run(k, (1, 1), (32, 1, 1), on_device(x), a, b)
    rounded = ((x.view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32)  # ties away from zero
    np.testing.assert_array_equal(floats(a, 32), np.where(np.isnan(x), np.nan, rounded))
    halves = b.to_host(np.empty((32, 2), np.uint16))
    pairs = (halves.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(pairs[:, 0], np.where(np.isnan(x), np.nan, bf16(x)))
    np.testing.assert_array_equal(pairs[:, 1], np.where(np.isnan(x), np.nan, -bf16(x)))


STAGES = """__global__ void k(const float *x, float *out, int n) {
  __shared__ __align__(16) float stages[3][128];
  const int t = threadIdx.x;
  auto fetch = [&](int i) {
    copy_async<16>(&stages[i %% 3][t * 4], &x[(i < n ? i : 0) * 128 + t * 4], i < n);
    copies_commit();
  };
  fetch(0), fetch(1);
  for (int i = 0; i < n; i++) {
    %s
    for (int j = 0; j < 4; j++) out[i * 128 + t * 4 + j] = stages[i %% 3][127 - t * 4 - j];
    fetch(i + 2);
  }
}"""


@pytest.mark.parametrize(
    "wait, right",
    [
        ("copies_wait<1>(); __syncthreads();", True),
        ("__syncthreads();", False),
        ("copies_wait<2>(); __syncthreads();", False),
        ("copies_wait<1>();", False),
    ],
)
def test_asynchronous_copies_arrive_when_they_are_waited_for(build, monkeypatch, wait, right):
    k, x = build(STAGES % wait, "PPi"), rng.standard_normal((5, 128), np.float32)
    got = []
    for order in "01":
        monkeypatch.setenv("EMU_REVERSE", order)
        out = DeviceBuffer(x.nbytes)
        run(k, (1, 1), (32, 1, 1), on_device(x), out, 5)
        got.append((floats(out, 5, 128) == x[:, ::-1]).all())
    assert all(got) == right


def test_a_copy_that_is_not_valid_writes_zeros_and_reads_nothing(build):
    k = build(
        """__global__ void k(float *out) {
      __shared__ __align__(16) float tile[4];
      copy_async<16>(tile, (const float *)64, false);
      copies_commit();
      copies_wait<0>();
      for (int i = 0; i < 4; i++) out[i] = tile[i];
    }""",
        "P",
    )
    out = DeviceBuffer(16)
    run(k, (1, 1), (1, 1, 1), out)
    assert (floats(out, 4) == 0).all()


@pytest.mark.parametrize(
    "access",
    ["copy_async<16>(tile, x + 1)", "copy_async<8>(tile + 1, x)", "unsigned r[4]; load_matrices(r, tile + 2)"],
)
def test_addresses_are_aligned(build, emulated, capfd, access):
    k = build(f"__global__ void k(const float *x) {{ __shared__ __align__(16) float tile[128]; {access}; }}", "P")
    with pytest.raises(emulated.driver.Error):
        run(k, (1, 1), (32, 1, 1), DeviceBuffer(64))
    printed = capfd.readouterr().err
    assert "aligned" in printed or "not a multiple of its size" in printed
