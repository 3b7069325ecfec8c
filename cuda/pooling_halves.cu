// Pooling that halves a picture: windows of 2 x 2 or 3 x 3 at a stride of 2, without padding, of pictures whose height is
// even and whose width is a multiple of 8. A thread works on the four windows beside each other that outputs 4 i to
// 4 i + 3, and in backward on the 2 x 8 places at which they begin; only the last windows extend beyond the picture.
// A ReLU in front of the pooling or behind it may be computed with it.
#include "packs.cuh"

// Four windows of item i. A line is a row of windows, counted through all planes; by_chunks and by_rows: see `divided`.
struct Four {
  int chunk, line, row;  // four of a line; the line in all planes, and in its plane
  bool below, beside;    // whether there are windows further down, and further right

  __device__ __forceinline__ Four(int i, int chunks, int rows, uint2 by_chunks, uint2 by_rows) {
    line = divided(i, by_chunks), chunk = i - line * chunks;
    row = line - divided(line, by_rows) * rows;
    below = row + 1 < rows, beside = chunk + 1 < chunks;
  }

  // i divided by a constant, given as its factor and shift (`division` in minicaffe.cuda.pooling).
  static __device__ __forceinline__ int divided(int i, uint2 by) {
    return (int)((__umulhi(i, by.x) + (unsigned)i) >> by.y);
  }

  // The place in its plane at which the first of the windows begins, and in all planes.
  __device__ __forceinline__ int begin(int width) const { return 2 * row * width + 8 * chunk; }
  __device__ __forceinline__ long long start(int width) const { return 2ll * line * width + 8 * chunk; }

  // How many places window j of the four has in the picture.
  template <int KERNEL>
  __device__ __forceinline__ int places(int j) const {
    return (KERNEL == 3 && !below ? 2 : KERNEL) * (KERNEL == 3 && j == 3 && !beside ? 2 : KERNEL);
  }
};

// MAX: a place outside the picture gets the value of one before it in the window, which is no greater maximum.
template <int KERNEL, bool MAX>
__device__ __forceinline__ void pool(const int n, const int rows, const int columns, const uint2 by_chunks,
                                     const uint2 by_rows, const Dtype slope, const Dtype *__restrict__ x,
                                     Dtype *__restrict__ y, int *__restrict__ mask) {
  const int width = 2 * columns, chunks = columns / 4;
  GRID_STRIDE(i, n / 4) {
    const Four four(i, chunks, rows, by_chunks, by_rows);
    const Dtype *place = x + four.start(width);
    Dtype values[KERNEL][9];
#pragma unroll
    for (int h = 0; h < KERNEL; h++) {
      const bool inside = h < 2 || four.below;
      const Dtype *row = place + (inside ? h : 1) * width;
      const Pack<4> left = load<4>(row), right = load<4>(row + 4);
      const Dtype last = KERNEL == 3 ? row[four.beside ? 8 : 7] : Dtype(0);
#pragma unroll
      for (int w = 0; w < 4; w++) {
        values[h][w] = MAX || inside ? left.v[w] : Dtype(0);
        values[h][w + 4] = MAX || inside ? right.v[w] : Dtype(0);
      }
      values[h][8] = MAX || (inside && four.beside) ? last : Dtype(0);
    }
    Pack<4> result;
    int4 best;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      Dtype value = MAX ? values[0][2 * j] : Dtype(0);
      int at = 0;
#pragma unroll
      for (int h = 0; h < KERNEL; h++)
#pragma unroll
        for (int w = 0; w < KERNEL; w++) {
          const Dtype here = values[h][2 * j + w];
          if (!MAX)
            value += here;
          else if (here > value)
            value = here, at = h * width + w;
        }
      if (!MAX) value /= four.places<KERNEL>(j);
      result.v[j] = rectified(value, slope);
      (&best.x)[j] = four.begin(width) + 2 * j + at;
    }
    store<4>(y + 4ll * i, result);
    if (MAX) ((int4 *)mask)[i] = best;
  }
}

// n: windows; slope: of a ReLU behind, 1 for none; mask as in pooling.forward.
__global__ void max_forward(const int n, const int rows, const int columns, const int kernel, const unsigned chunks_factor,
                            const unsigned chunks_shift, const unsigned rows_factor, const unsigned rows_shift,
                            const Dtype slope, const Dtype *x, Dtype *y, int *mask) {
  const uint2 by_chunks = make_uint2(chunks_factor, chunks_shift), by_rows = make_uint2(rows_factor, rows_shift);
  if (kernel == 3)
    pool<3, true>(n, rows, columns, by_chunks, by_rows, slope, x, y, mask);
  else
    pool<2, true>(n, rows, columns, by_chunks, by_rows, slope, x, y, mask);
}

__global__ void ave_forward(const int n, const int rows, const int columns, const int kernel, const unsigned chunks_factor,
                            const unsigned chunks_shift, const unsigned rows_factor, const unsigned rows_shift,
                            const Dtype slope, const Dtype *x, Dtype *y) {
  const uint2 by_chunks = make_uint2(chunks_factor, chunks_shift), by_rows = make_uint2(rows_factor, rows_shift);
  if (kernel == 3)
    pool<3, false>(n, rows, columns, by_chunks, by_rows, slope, x, y, nullptr);
  else
    pool<2, false>(n, rows, columns, by_chunks, by_rows, slope, x, y, nullptr);
}

extern __shared__ __align__(16) uint4 shared_memory[];

// A block works on `each` planes, whose windows' gradients are kept in shared memory; MAX: with the places of the maxima.
// front, behind: slopes of a ReLU in front, whose top is x, and of one behind, whose top is y; without one, x or y is null.
template <int KERNEL, bool MAX>
__device__ __forceinline__ void gradients(const int n, const int each, const int rows, const int columns,
                                          const uint2 by_chunks, const uint2 by_rows, const Dtype front,
                                          const Dtype behind, const Dtype *__restrict__ x, const Dtype *__restrict__ y,
                                          const int *__restrict__ mask, Dtype *__restrict__ dy,
                                          Dtype *__restrict__ pooled, Dtype *__restrict__ dx) {
  const int width = 2 * columns, chunks = columns / 4, items = each * rows * chunks;
  const int first = blockIdx.x * items, count = min(items, n / 16 - first);
  Dtype *kept = (Dtype *)shared_memory;
  int *maxima = (int *)(kept + 4 * items);
  BLOCK_STRIDE(i, count) {
    const long long at = 4ll * (first + i);
    Pack<4> d = load<4>(dy + at);
    if (y) {
      const Pack<4> tops = load<4>(y + at);
#pragma unroll
      for (int j = 0; j < 4; j++) d.v[j] = tops.v[j] > 0 ? d.v[j] : d.v[j] * behind;
      store<4>(dy + at, d);
    }
    if (MAX) {
      ((int4 *)maxima)[i] = ((const int4 *)mask)[first + i];
    } else {
      const Four four(first + i, chunks, rows, by_chunks, by_rows);
#pragma unroll
      for (int j = 0; j < 4; j++) d.v[j] /= four.places<KERNEL>(j);
    }
    store<4>(kept + 4 * i, d);
  }
  __syncthreads();
  BLOCK_STRIDE(i, count) {
    const Four four(first + i, chunks, rows, by_chunks, by_rows);
    Dtype sums[2][8] = {};
#pragma unroll
    for (int up = KERNEL == 3 ? 1 : 0; up >= 0; up--) {
      const int begin = 4 * (i - up * chunks);
      if (up && !four.row) continue;
#pragma unroll
      for (int j = KERNEL == 3 ? -1 : 0; j < 4; j++) {
        if (j < 0 && !four.chunk) continue;
        const Dtype d = kept[begin + j];
        const int place = MAX ? maxima[begin + j] - four.begin(width) : 0;
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
          for (int w = 0; w < 8; w++)
            if (h + 2 * up < KERNEL && w >= 2 * j && w < 2 * j + KERNEL && (!MAX || place == h * width + w)) sums[h][w] += d;
      }
    }
#pragma unroll
    for (int part = 0; part < 4; part++) {
      const long long at = four.start(width) + part / 2 * width + part % 2 * 4;
      Pack<4> sum;
#pragma unroll
      for (int j = 0; j < 4; j++) sum.v[j] = sums[part / 2][part % 2 * 4 + j];
      if (pooled) store<4>(pooled + at, sum);
      if (x) {
        const Pack<4> tops = load<4>(x + at);
#pragma unroll
        for (int j = 0; j < 4; j++) sum.v[j] = tops.v[j] > 0 ? sum.v[j] : sum.v[j] * front;
      }
      store<4>(dx + at, sum);
    }
  }
}

// n: places of all planes; mask, dy, pooled and dx as in pooling.backward.
__global__ void max_backward(const int n, const int each, const int rows, const int columns, const int kernel,
                             const unsigned chunks_factor, const unsigned chunks_shift, const unsigned rows_factor,
                             const unsigned rows_shift, const Dtype front, const Dtype behind,
                             const Dtype *x, const Dtype *y,
                             const int *mask, Dtype *dy, Dtype *pooled, Dtype *dx) {
  const uint2 by_chunks = make_uint2(chunks_factor, chunks_shift), by_rows = make_uint2(rows_factor, rows_shift);
  if (kernel == 3)
    gradients<3, true>(n, each, rows, columns, by_chunks, by_rows, front, behind, x, y, mask, dy, pooled, dx);
  else
    gradients<2, true>(n, each, rows, columns, by_chunks, by_rows, front, behind, x, y, mask, dy, pooled, dx);
}

__global__ void ave_backward(const int n, const int each, const int rows, const int columns, const int kernel,
                             const unsigned chunks_factor, const unsigned chunks_shift, const unsigned rows_factor,
                             const unsigned rows_shift, const Dtype front, const Dtype behind,
                             const Dtype *x, const Dtype *y, Dtype *dy,
                             Dtype *pooled, Dtype *dx) {
  const uint2 by_chunks = make_uint2(chunks_factor, chunks_shift), by_rows = make_uint2(rows_factor, rows_shift);
  if (kernel == 3)
    gradients<3, false>(n, each, rows, columns, by_chunks, by_rows, front, behind, x, y, nullptr, dy, pooled, dx);
  else
    gradients<2, false>(n, each, rows, columns, by_chunks, by_rows, front, behind, x, y, nullptr, dy, pooled, dx);
}
