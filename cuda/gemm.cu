// C = alpha op(A) op(B) + beta C over row-major matrices, and products of a matrix and a vector.
#include "gemm.cuh"

struct Scaled {
  Dtype *data;
  int width;
  Dtype alpha, beta;
  __device__ void operator()(int row, int column, Dtype sum) const {
    Dtype *c = data + (long long)row * width + column;
    *c = beta == 0 ? alpha * sum : alpha * sum + beta * *c;  // what C holds may be anything when beta is 0
  }
};

// The share of k from `begin` to `end` of this block's tile: grid (tiles along n, tiles along m, ...).
template <class T>
__device__ __forceinline__ void product(T &tile, bool trans_a, bool trans_b, int m, int n, int k, int begin, int end,
                                        const Dtype *a, const Dtype *b, const Scaled &out) {
  const AlongK a_rows = {a, k}, b_rows = {b, k};
  const AcrossK a_columns = {a, m}, b_columns = {b, n};
  if (trans_a)
    if (trans_b)
      multiply(tile, m, n, begin, end, blockIdx.y, blockIdx.x, a_columns, b_rows, out);
    else
      multiply(tile, m, n, begin, end, blockIdx.y, blockIdx.x, a_columns, b_columns, out);
  else if (trans_b)
    multiply(tile, m, n, begin, end, blockIdx.y, blockIdx.x, a_rows, b_rows, out);
  else
    multiply(tile, m, n, begin, end, blockIdx.y, blockIdx.x, a_rows, b_columns, out);
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    gemm_128(const bool trans_a, const bool trans_b, const int m, const int n, const int k, const Dtype alpha,
             const Dtype *a, const Dtype *b, const Dtype beta, Dtype *c, const long long step_a, const long long step_b,
             const long long step_c) {
  __shared__ Tile<128, 128, 8, 8, 8> tile;
  const int i = blockIdx.z;
  const Scaled out = {c + i * step_c, n, alpha, beta};
  product(tile, trans_a, trans_b, m, n, k, 0, k, a + i * step_a, b + i * step_b, out);
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    gemm_64(const bool trans_a, const bool trans_b, const int m, const int n, const int k, const Dtype alpha,
            const Dtype *a, const Dtype *b, const Dtype beta, Dtype *c, const long long step_a, const long long step_b,
            const long long step_c) {
  __shared__ Tile<64, 64, 16, 4, 4> tile;
  const int i = blockIdx.z;
  const Scaled out = {c + i * step_c, n, alpha, beta};
  product(tile, trans_a, trans_b, m, n, k, 0, k, a + i * step_a, b + i * step_b, out);
}

// For few tiles and a long k: slice z of it makes a matrix of its own, and `add_slices` adds them in their order.
__global__ void __launch_bounds__(THREADS, BLOCKS)
    gemm_slices(const bool trans_a, const bool trans_b, const int m, const int n, const int k, const int slice,
                const Dtype *a, const Dtype *b, Dtype *partial) {
  __shared__ Tile<64, 64, 16, 4, 4> tile;
  const int begin = blockIdx.z * slice;
  const Scaled out = {partial + (long long)blockIdx.z * m * n, n, 1, 0};
  product(tile, trans_a, trans_b, m, n, k, begin, min(begin + slice, k), a, b, out);
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
  for (int j = threadIdx.x; j < n; j += blockDim.x) sum += row[j] * x[j];
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
    for (int i = threadIdx.y; i < m; i += 8) sum += a[(long long)i * n + j] * x[i];
  partial[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y || j >= n) return;
  for (int i = 1; i < 8; i++) sum += partial[i][threadIdx.x];
  y[j] = beta == 0 ? alpha * sum : alpha * sum + beta * y[j];
}
