// C = alpha op(A) op(B) + beta C over row-major matrices, and products of a matrix and a vector.
#include "gemm.cuh"

struct Scaled {
  Dtype *data;
  int width;
  Dtype alpha, beta;
  __device__ void operator()(int row, int column, Dtype sum) const {
    Dtype *c = data + (long long)row * width + column;
    *c = beta == 0 ? alpha * sum : alpha * sum + beta * *c;  // when beta is 0, C may be uninitialised
  }
};

// The tile, and the product or slice (layer), that this block computes.
template <class T>
__device__ __forceinline__ Cell cell_of(const T &, int m, int n) {
  return Cell(tiles(n, T::BN), tiles(m, T::BM));
}

// One tile of the product, summed over k from `begin` to `end`.
template <class T>
__device__ __forceinline__ void product(T &tile, const Cell &at, bool trans_a, bool trans_b, int m, int n, int k,
                                        int begin, int end, const Dtype *a, const Dtype *b, const Scaled &out) {
  const AlongK a_rows = {a, k}, b_rows = {b, k};
  const AcrossK a_columns = {a, m}, b_columns = {b, n};
  if (trans_a)
    if (trans_b)
      multiply(tile, m, n, begin, end, at.row, at.column, a_columns, b_rows, out);
    else
      multiply(tile, m, n, begin, end, at.row, at.column, a_columns, b_columns, out);
  else if (trans_b)
    multiply(tile, m, n, begin, end, at.row, at.column, a_rows, b_rows, out);
  else
    multiply(tile, m, n, begin, end, at.row, at.column, a_rows, b_columns, out);
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    gemm_128(const bool trans_a, const bool trans_b, const int m, const int n, const int k, const Dtype alpha,
             const Dtype *a, const Dtype *b, const Dtype beta, Dtype *c, const long long step_a, const long long step_b,
             const long long step_c) {
  __shared__ Tile<128, 128, 8, 8, 8> tile;
  const Cell at = cell_of(tile, m, n);
  const Scaled out = {c + at.layer * step_c, n, alpha, beta};
  product(tile, at, trans_a, trans_b, m, n, k, 0, k, a + at.layer * step_a, b + at.layer * step_b, out);
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    gemm_64(const bool trans_a, const bool trans_b, const int m, const int n, const int k, const Dtype alpha,
            const Dtype *a, const Dtype *b, const Dtype beta, Dtype *c, const long long step_a, const long long step_b,
            const long long step_c) {
  __shared__ Tile<64, 64, 16, 4, 4> tile;
  const Cell at = cell_of(tile, m, n);
  const Scaled out = {c + at.layer * step_c, n, alpha, beta};
  product(tile, at, trans_a, trans_b, m, n, k, 0, k, a + at.layer * step_a, b + at.layer * step_b, out);
}

// Split-k, for few tiles and a long k: each slice of k gives a separate matrix, and `add_slices` adds them in order.
__global__ void __launch_bounds__(THREADS, BLOCKS)
    gemm_slices(const bool trans_a, const bool trans_b, const int m, const int n, const int k, const int slice,
                const Dtype *a, const Dtype *b, Dtype *partial) {
  __shared__ Tile<64, 64, 16, 4, 4> tile;
  const Cell at = cell_of(tile, m, n);
  const int begin = at.layer * slice, end = begin + min(slice, k - begin);
  const Scaled out = {partial + (long long)at.layer * m * n, n, 1, 0};
  product(tile, at, trans_a, trans_b, m, n, k, begin, end, a, b, out);
}

__global__ void add_slices(const int n, const int slices, const Dtype alpha, const Dtype *partial, const Dtype beta,
                           Dtype *c) {
  GRID_STRIDE(i, n) {
    Dtype sum = 0;
    for (int s = 0; s < slices; s++) sum += partial[(long long)s * n + i];
    c[i] = beta == 0 ? alpha * sum : alpha * sum + beta * c[i];
  }
}

// y = alpha A x + beta y: one block of whole warps for each row.
__global__ void gemv_rows(const int n, const Dtype alpha, const Dtype *a, const Dtype *x, const Dtype beta, Dtype *y) {
  const Dtype *row = a + (long long)blockIdx.x * n;
  Dtype sum = 0;
  BLOCK_STRIDE(j, n) sum += row[j] * x[j];
  sum = block_sum(sum);
  if (threadIdx.x == 0) y[blockIdx.x] = beta == 0 ? alpha * sum : alpha * sum + beta * y[blockIdx.x];
}

// y = alpha A^T x + beta y: 32 columns for each block of 32 x 8 threads.
__global__ void gemv_columns(const int m, const int n, const Dtype alpha, const Dtype *a, const Dtype *x,
                             const Dtype beta, Dtype *y) {
  __shared__ Dtype partial[8][33];
  const int j = blockIdx.x * 32 + threadIdx.x;
  Dtype sum = 0;
  if (j < n)
    STRIDE(i, threadIdx.y, m, 8) sum += a[(long long)i * n + j] * x[i];
  partial[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y || j >= n) return;
  for (int i = 1; i < 8; i++) sum += partial[i][threadIdx.x];
  y[j] = beta == 0 ? alpha * sum : alpha * sum + beta * y[j];
}
