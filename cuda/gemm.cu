// C = alpha op(A) op(B) + beta C over row-major matrices; op is told by the strides of rows and columns.
#include "gemm.cuh"

struct Matrix {
  const Dtype *data;
  long long first, second;  // the strides of the two indices
  bool k_is_first;
  __device__ Dtype operator()(int i, int j) const { return data[i * first + j * second]; }
  __device__ bool along_k() const { return k_is_first ? first == 1 : second == 1; }
};

struct Scaled {
  Dtype *data;
  int width;
  Dtype alpha, beta;
  __device__ void operator()(int row, int column, Dtype sum) const {
    Dtype *c = data + (long long)row * width + column;
    *c = beta == 0 ? alpha * sum : alpha * sum + beta * *c;  // what C holds may be anything when beta is 0
  }
};

// One block per tile: grid (tiles along n, tiles along m, products). A's element (i, k) lies at i a_i + k a_k, and so
// on.
template <int BM, int BN, int BK, int TM, int TN>
__device__ __forceinline__ void product(int m, int n, int k, Dtype alpha, const Dtype *a, long long a_i, long long a_k,
                                        const Dtype *b, long long b_k, long long b_j, Dtype beta, Dtype *c,
                                        long long step_a, long long step_b, long long step_c) {
  const Matrix first = {a + blockIdx.z * step_a, a_i, a_k, false}, second = {b + blockIdx.z * step_b, b_k, b_j, true};
  const Scaled out = {c + blockIdx.z * step_c, n, alpha, beta};
  multiply<BM, BN, BK, TM, TN>(m, n, 0, k, blockIdx.y, blockIdx.x, first, second, out);
}

__global__ void __launch_bounds__(256)
    gemm_128(const int m, const int n, const int k, const Dtype alpha, const Dtype *a, const long long a_i,
             const long long a_k, const Dtype *b, const long long b_k, const long long b_j, const Dtype beta, Dtype *c,
             const long long step_a, const long long step_b, const long long step_c) {
  product<128, 128, 8, 8, 8>(m, n, k, alpha, a, a_i, a_k, b, b_k, b_j, beta, c, step_a, step_b, step_c);
}

__global__ void __launch_bounds__(256)
    gemm_64(const int m, const int n, const int k, const Dtype alpha, const Dtype *a, const long long a_i,
            const long long a_k, const Dtype *b, const long long b_k, const long long b_j, const Dtype beta, Dtype *c,
            const long long step_a, const long long step_b, const long long step_c) {
  product<64, 64, 16, 4, 4>(m, n, k, alpha, a, a_i, a_k, b, b_k, b_j, beta, c, step_a, step_b, step_c);
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
