// C = alpha op(A) op(B) + beta C over row-major matrices, and products of a matrix and a vector.
#include "gemm.cuh"

#ifndef TRANS_A  // minicaffe.cuda.ops compiles each variant when it is needed
#define TRANS_A false
#define TRANS_B false
#define WIDE_COPIES true
#endif

const int FULL = DTYPE_BITS == 32 ? 4 : 2, HALF = DTYPE_BITS == 32 ? 3 : 2;  // stages, of 8 and of 16 elements
typedef Shape<128, 128, 8, FULL> Square;
typedef Shape<64, 64, 16, HALF> Small;
typedef Shape<32, 128, 16, HALF> Low;
typedef Shape<128, 32, 16, HALF, 8, 8, 8> Thin;

// Operand of R rows: along k or across.
template <class S, int R, bool ALONG>
struct Matrix : AlongK<S, R, WIDE_COPIES> {
  using AlongK<S, R, WIDE_COPIES>::AlongK;
};
template <class S, int R>
struct Matrix<S, R, false> : AcrossK<S, R, WIDE_COPIES> {
  using AcrossK<S, R, WIDE_COPIES>::AcrossK;
};

// The gradient of weights, dy^T x, comes with that of the bias, the sums of dy's columns: row_sums += those of op(A)'s rows.
template <class S>
struct Product {
  typedef Matrix<S, S::BM, !TRANS_A> A;
  typedef Matrix<S, S::BN, TRANS_B> B;
  typedef Sums<S, TRANS_A> Result;

  Dtype *ring;
  int m, n, k;
  const Dtype *a, *b;
  Dtype *c;
  long long step_a, step_b, step_c;
  Dtype alpha, beta, slope;
  const Dtype *bias;
  bool relu, wide;
  Dtype *row_sums;

  struct Place {
    int layer, row, column;
  };
  __device__ Place place(int tile) const {
    const int across = tiles(n, S::BN), down = tiles(m, S::BM);
    return {tile / across / down, tile / across % down * S::BM, tile % across * S::BN};
  }

  __device__ void sum(int tile, int step, int steps, Result &sums) const {
    const Place p = place(tile);
    const int begin = step * S::BK, end = min(k, begin + steps * S::BK);
    A rows(a + p.layer * step_a, TRANS_A ? m : k, p.row, m, begin, end);
    B columns(b + p.layer * step_b, TRANS_B ? k : n, p.column, n, begin, end);
    multiply<S>(ring, steps, rows, columns, sums, row_sums && !p.column);
  }

  template <int N>
  __device__ Group<N> finish(const Dtype *old, int column, Group<N> g) const {
    Group<N> c = {}, add = {};
    if (beta != 0) c = load_group<N>(old, n - column, wide);  // otherwise C may be uninitialised
    if (bias) add = load_group<N>(bias + column, n - column, false);
#pragma unroll
    for (int e = 0; e < N; e++) {
      const Dtype value = alpha * g.e[e] + (beta != 0 ? beta * c.e[e] : Dtype(0)) + add.e[e];
      g.e[e] = relu ? rectified(value, slope) : value;
    }
    return g;
  }

  __device__ void store(int tile, Result &sums) const {
    const Place p = place(tile);
    Dtype *data = c + p.layer * step_c;
    sums.each([&](int i, int j, const auto &group) {
      i += p.row, j += p.column;
      if (i < m && j < n) store_group(data + (long long)i * n + j, n - j, wide, finish(data + (long long)i * n + j, j, group));
    });
    if (row_sums && !p.column)
      sums.each_row([&](int i, Dtype sum) {
        if (p.row + i < m) row_sums[p.row + i] += sum;
      });
  }
};

template <class S>
__device__ __forceinline__ void gemm(const int m, const int n, const int k, const Dtype alpha, const Dtype *a, const Dtype *b,
                                     const Dtype beta, Dtype *c, const Dtype *bias, const bool relu, const Dtype slope,
                                     Dtype *row_sums, const long long step_a, const long long step_b,
                                     const long long step_c, const bool wide, const int count, const int share,
                                     Dtype *parts, unsigned *tickets) {
  typedef Product<S> P;
  __shared__ __align__(16) Dtype ring[Ring<S, typename P::A, typename P::B>::SIZE];
  const P product = {ring, m, n, k, a, b, c, step_a, step_b, step_c, alpha, beta, slope, bias, relu, wide, row_sums};
  const Split split = {max(1, tiles(k, S::BK)), share, parts, tickets};
  typename P::Result sums;
  even_split<S>(split, count, sums, product);
}

__global__ void __launch_bounds__(Square::THREADS, Square::BLOCKS)
    gemm_128(const int m, const int n, const int k, const Dtype alpha, const Dtype *a, const Dtype *b, const Dtype beta,
         Dtype *c, const Dtype *bias, const bool relu, const Dtype slope, Dtype *row_sums, const long long step_a,
         const long long step_b, const long long step_c, const bool wide, const int count, const int share, Dtype *parts,
         unsigned *tickets) {
  gemm<Square>(m, n, k, alpha, a, b, beta, c, bias, relu, slope, row_sums, step_a, step_b, step_c, wide, count, share, parts,
         tickets);
}

__global__ void __launch_bounds__(Small::THREADS, Small::BLOCKS)
    gemm_64(const int m, const int n, const int k, const Dtype alpha, const Dtype *a, const Dtype *b, const Dtype beta,
         Dtype *c, const Dtype *bias, const bool relu, const Dtype slope, Dtype *row_sums, const long long step_a,
         const long long step_b, const long long step_c, const bool wide, const int count, const int share, Dtype *parts,
         unsigned *tickets) {
  gemm<Small>(m, n, k, alpha, a, b, beta, c, bias, relu, slope, row_sums, step_a, step_b, step_c, wide, count, share, parts,
         tickets);
}

__global__ void __launch_bounds__(Low::THREADS, Low::BLOCKS)
    gemm_32x128(const int m, const int n, const int k, const Dtype alpha, const Dtype *a, const Dtype *b, const Dtype beta,
         Dtype *c, const Dtype *bias, const bool relu, const Dtype slope, Dtype *row_sums, const long long step_a,
         const long long step_b, const long long step_c, const bool wide, const int count, const int share, Dtype *parts,
         unsigned *tickets) {
  gemm<Low>(m, n, k, alpha, a, b, beta, c, bias, relu, slope, row_sums, step_a, step_b, step_c, wide, count, share, parts,
         tickets);
}

__global__ void __launch_bounds__(Thin::THREADS, Thin::BLOCKS)
    gemm_128x32(const int m, const int n, const int k, const Dtype alpha, const Dtype *a, const Dtype *b, const Dtype beta,
         Dtype *c, const Dtype *bias, const bool relu, const Dtype slope, Dtype *row_sums, const long long step_a,
         const long long step_b, const long long step_c, const bool wide, const int count, const int share, Dtype *parts,
         unsigned *tickets) {
  gemm<Thin>(m, n, k, alpha, a, b, beta, c, bias, relu, slope, row_sums, step_a, step_b, step_c, wide, count, share, parts,
         tickets);
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
