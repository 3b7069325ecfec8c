// C = alpha op(A) op(B) + beta C over row-major matrices of floats by tensor cores, which round the factors to TF32.
#include "tensor.cuh"

#ifndef TRANS_A  // minicaffe.cuda.ops compiles each variant when it is needed
#define TRANS_A false
#define TRANS_B false
#define WIDE_COPIES true
#endif

#if defined(TENSOR_CORES) && !defined(BF16)

// Matrices are copied 16 bytes at a time where all of their lines begin at multiples of 16 bytes, else element by element.
const int PART = WIDE_COPIES ? CHUNK : 1;

// An operand of ROWS rows, element (i, k) at i * stride + k.
template <class S, int ROWS, int WARP>
struct MatrixAlong {
  typedef Along<ROWS, WARP> Layout;
  static const int LINE = STEP / PART, COPIES = ROWS * LINE / S::THREADS, APART = S::THREADS / LINE;
  const float *from;
  int stride, rows, left, to[COPIES < 8 ? COPIES : 8];

  __device__ MatrixAlong(const float *data, int stride, int row0, int rows, int k, int end, bool) : stride(stride) {
    const int row = threadIdx.x / LINE, first = threadIdx.x % LINE * PART;
    from = hoisted(data + (long long)(row0 + row) * stride + k + first);
    this->rows = rows - row0 - row, left = end - k - first;
    // Rows that are a multiple of 8 apart have the same exchange of chunks.
#pragma unroll
    for (int i = 0; i < (COPIES < 8 ? COPIES : 8); i++)
      to[i] = Layout::position(row + i * APART, first / CHUNK) + first % CHUNK * 4;
  }
  __device__ __forceinline__ void copy(char *tile) {
    const bool inside = left > 0;
#pragma unroll
    for (int i = 0; i < COPIES; i++)
      copy_async<PART * 4>(tile + to[i % 8] + i / 8 * 8 * APART * 128, from + (long long)(i * APART) * stride,
                           inside && i * APART < rows);
    from += STEP, left -= STEP;
  }
};

// An operand of ROWS rows, element (i, k) at i + k * stride. ones: row `rows` is of ones.
template <class S, int ROWS, int WARP>
struct MatrixAcross {
  typedef Across<ROWS, WARP> Layout;
  static const int LINE = ROWS / PART, COPIES = STEP * LINE / S::THREADS, APART = S::THREADS / LINE;
  static_assert(APART % 4 == 0 || !WIDE_COPIES, "copies of a thread have the same exchange of chunks");
  const char *from;
  int stride, left, to[APART % 4 ? 4 : 1];

  __device__ MatrixAcross(const float *data, int stride, int row0, int rows, int k, int end, bool ones) {
    const int depth = threadIdx.x / LINE, row = threadIdx.x % LINE * PART;
    from = hoisted((const char *)(data + (long long)(k + depth) * stride + row0 + row));
    this->stride = stride * 4, left = row0 + row < rows ? end - k - depth : 0;
    if (ones && row0 + row == rows)
      from = hoisted((const char *)&ONE), this->stride = 0, left = end - k - depth;
#pragma unroll
    for (int i = 0; i < (APART % 4 ? 4 : 1); i++)
      to[i] = Layout::position(depth + i * APART, row / CHUNK) + row % CHUNK * 4;
  }
  __device__ __forceinline__ void copy(char *tile) {
#pragma unroll
    for (int i = 0; i < COPIES; i++)
      copy_async<PART * 4>(tile + (APART % 4 ? to[i % 4] + i / 4 * 4 * APART * ROWS * 4 : to[0] + i * APART * ROWS * 4),
                           scaled(from, i * APART, stride), i * APART < left);
    from = scaled(from, STEP, stride), left -= STEP;
  }
};

template <class S, int ROWS, int WARP, bool ALONG>
struct Matrix : MatrixAlong<S, ROWS, WARP> {
  using MatrixAlong<S, ROWS, WARP>::MatrixAlong;
};
template <class S, int ROWS, int WARP>
struct Matrix<S, ROWS, WARP, false> : MatrixAcross<S, ROWS, WARP> {
  using MatrixAcross<S, ROWS, WARP>::MatrixAcross;
};

struct Result {
  float *c;
  int m, n;
  float alpha, beta;
  const float *bias;
  bool relu;
  float slope;
  float *row_sums;
  __device__ __forceinline__ void store(int row, int column, float sum) const {
    if (row >= m) return;
    if (column < n) {
      float *to = c + (long long)row * n + column;
      float value = beta == 0 ? alpha * sum : alpha * sum + beta * *to;  // when beta is 0, C may be uninitialised
      if (bias) value += bias[column];
      *to = relu && value < 0 ? (slope == 0 ? 0.0f : value * slope) : value;
    } else if (row_sums && column == n) {
      row_sums[row] += sum;
    }
  }
};

template <class S>
__device__ __forceinline__ void product(const int columns, const int rows, const int batch, const Shares split,
                                        const int k, const float *a, const float *b, const long long step_a,
                                        const long long step_b, const long long step_c, Result out) {
  typedef Matrix<S, S::BM, S::WM, !TRANS_A> A;
  typedef Matrix<S, S::BN, S::WN, TRANS_B> B;
  char *memory = (char *)tensor_memory;
  const Cell at(columns, rows, batch);
  const Part part((k + STEP - 1) / STEP, at.share, split.shares);
  const int begin = part.begin * STEP;
  const int row0 = at.row * S::BM, column0 = at.column * S::BN;
  Sums<S, typename A::Layout, typename B::Layout> sums;
  {
    A left(a + at.group * step_a, TRANS_A ? out.m : k, row0, out.m, begin, k, false);
    B right(b + at.group * step_b, TRANS_B ? k : out.n, column0, out.n, begin, k, out.row_sums != 0);
    multiply(sums, left, right, part.count, memory);
  }
  if (!add_shares(sums, split, at.tile, at.share)) return;
  out.c += at.group * step_c;
  // Through shared memory, so that neighbours in a row are stored together.
  sums.each([&](int i, int j, int e, float &sum) {
    const int column = sums.column(j, e);
    *(float *)(memory + Across<S::BN, S::WN>::position(sums.row(i, e), column / CHUNK) + column % CHUNK * 4) = sum;
  });
  __syncthreads();
  const int column = threadIdx.x % S::BN;
#pragma unroll 8
  for (int row = threadIdx.x / S::BN; row < S::BM; row += S::THREADS / S::BN)
    out.store(row0 + row, column0 + column,
              *(const float *)(memory + Across<S::BN, S::WN>::position(row, column / CHUNK) + column % CHUNK * 4));
}

#define PRODUCT(...)                                                                                            \
  product<Shape<__VA_ARGS__>>(columns, rows, batch, {shares, span, partial, tickets}, k, a, b, step_a, step_b, \
                              step_c, {c, m, n, alpha, beta, bias, relu, slope, row_sums})
#else
#define PRODUCT(...)
#endif

// Blocks: columns x rows (tiles) x batch x shares. bias: of a row of C; row_sums: op(A)'s rows are added to it.
__global__ void __launch_bounds__(128, 2)
    gemm_128x128(const int columns, const int rows, const int batch, const int m, const int n, const int k,
             const float alpha, const float *a, const float *b, const float beta, float *c, const float *bias,
             const bool relu, const float slope, float *row_sums, const long long step_a, const long long step_b,
             const long long step_c, const int shares, const int span, void *partial, void *tickets) {
  PRODUCT(128, 128, 64, 64);
}

__global__ void __launch_bounds__(128, 3)
    gemm_128x64(const int columns, const int rows, const int batch, const int m, const int n, const int k,
            const float alpha, const float *a, const float *b, const float beta, float *c, const float *bias,
            const bool relu, const float slope, float *row_sums, const long long step_a, const long long step_b,
            const long long step_c, const int shares, const int span, void *partial, void *tickets) {
  PRODUCT(128, 64, 32, 64);
}
