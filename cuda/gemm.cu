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

// Grid (tiles along n, tiles along m, products).
template <class T>
__device__ __forceinline__ void product(T &tile, bool trans_a, bool trans_b, int m, int n, int k, const Dtype *a,
                                        const Dtype *b, const Scaled &out) {
  const AlongK a_rows = {a, k}, b_rows = {b, k};
  const AcrossK a_columns = {a, m}, b_columns = {b, n};
  if (trans_a)
    if (trans_b)
      multiply(tile, m, n, 0, k, blockIdx.y, blockIdx.x, a_columns, b_rows, out);
    else
      multiply(tile, m, n, 0, k, blockIdx.y, blockIdx.x, a_columns, b_columns, out);
  else if (trans_b)
    multiply(tile, m, n, 0, k, blockIdx.y, blockIdx.x, a_rows, b_rows, out);
  else
    multiply(tile, m, n, 0, k, blockIdx.y, blockIdx.x, a_rows, b_columns, out);
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    gemm_128(const bool trans_a, const bool trans_b, const int m, const int n, const int k, const Dtype alpha,
             const Dtype *a, const Dtype *b, const Dtype beta, Dtype *c, const long long step_a, const long long step_b,
             const long long step_c) {
  __shared__ Tile<128, 128, 8, 8, 8> tile;
  const int i = blockIdx.z;
  const Scaled out = {c + i * step_c, n, alpha, beta};
  product(tile, trans_a, trans_b, m, n, k, a + i * step_a, b + i * step_b, out);
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    gemm_64(const bool trans_a, const bool trans_b, const int m, const int n, const int k, const Dtype alpha,
            const Dtype *a, const Dtype *b, const Dtype beta, Dtype *c, const long long step_a, const long long step_b,
            const long long step_c) {
  __shared__ Tile<64, 64, 16, 4, 4> tile;
  const int i = blockIdx.z;
  const Scaled out = {c + i * step_c, n, alpha, beta};
  product(tile, trans_a, trans_b, m, n, k, a + i * step_a, b + i * step_b, out);
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
