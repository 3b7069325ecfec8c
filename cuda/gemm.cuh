// The core of every matrix product: from device memory to shared memory, from there to registers, and the sums' way out.
//
// A block computes BM x BN sums in steps of BK along k; a thread has TM x TN of them in registers. A ring of STAGES
// buffers in shared memory is filled by asynchronous copies: while one step is multiplied, the copies of the next
// STAGES - 1 are on their way, so it is the ring that hides memory's latency, and not the number of warps.
//
// An operand is an object whose `next` issues this thread's part of a step's copies and advances (`AlongK`, `AcrossK`; a
// convolution gathers its operands from an image). What lies outside is filled with zeros, without a branch. Copies
// cannot transpose 16 bytes, so neighbours in memory stay neighbours in shared memory: along k, or across (`Panel`).
//
// split.cuh divides the steps of all tiles among the blocks, and adds the parts of a tile that several blocks have.
#include "instructions.cuh"

const int VECTOR = 16 / sizeof(Dtype);  // elements of a 16-byte access
template <int N>
struct __align__(N * sizeof(Dtype) < 16 ? N * sizeof(Dtype) : 16) Group {  // neighbours, read or written at once
  Dtype e[N];
};

// Keeps an address in a register: otherwise each use of it may be computed from its parts, with 64 bits.
__device__ __forceinline__ void keep_pointer(const Dtype *&p) {
#ifndef __CUDA_EMU__
  asm("" : "+l"(p));
#endif
}

// N neighbours in global memory, of which `left` exist; `wide`: all of them, at a multiple of 16 bytes.
template <int N>
__device__ __forceinline__ Group<N> load_group(const Dtype *from, int left, bool wide) {
  if (wide) return *(const Group<N> *)from;
  Group<N> g;
#pragma unroll
  for (int e = 0; e < N; e++) g.e[e] = e < left ? from[e] : Dtype(0);
  return g;
}
template <int N>
__device__ __forceinline__ void store_group(Dtype *to, int left, bool wide, const Group<N> &g) {
  if (wide) *(Group<N> *)to = g;
#pragma unroll
  for (int e = 0; e < N; e++)
    if (!wide && e < left) to[e] = g.e[e];
}

__device__ __forceinline__ int tiles(int n, int size) { return ((unsigned)n + size - 1) / size; }

// LANES threads of a warp lie along the rows, 32 / LANES along the columns.
template <int BM_, int BN_, int BK_, int STAGES_, int TM_ = 8, int TN_ = 8, int LANES_ = 4>
struct Shape {
  static const int BM = BM_, BN = BN_, BK = BK_, STAGES = STAGES_, TM = TM_, TN = TN_, LANES = LANES_;
  static const int WARP_M = LANES * TM, WARP_N = 32 / LANES * TN, THREADS = BM / TM * (BN / TN);
  // Resident blocks: a thread of a large block may have 128 registers, of a small one 168, with more than 64 sums 255.
  static const int BLOCKS = (DTYPE_BITS == 64 ? 256 : TM * TN > 64 ? 256 : THREADS < 256 ? 384 : 512) / THREADS;
  static_assert(BM % WARP_M == 0 && BN % WARP_N == 0, "a block has whole warps");
};

// An operand's part of a stage: R rows of BK elements. Without bank conflicts: lanes side by side read 16 bytes side by
// side, or 8 bytes in the same row of groups of four rows, which are 16 bytes apart modulo the banks thanks to the 16
// bytes behind each group. PAD is for copies that transpose, with 8 lanes along k.
template <int R, int BK, bool ALONG, int PAD = 0>
struct Panel {
  static const bool ALONG_K = ALONG;
  static const int LINE = R + PAD;
  static const int SIZE = ALONG ? R * BK + R / 4 * VECTOR : BK * LINE;
  // The place of an element; at(row, k) + at(r, j) is at(row + r, k + j) if row is a multiple of 4.
  static __device__ __forceinline__ int at(int row, int k) {
    return ALONG ? row * BK + row / 4 * VECTOR + k : k * LINE + row;
  }
};

// Two neighbours in shared memory; `volatile` keeps ptxas from joining reads, which needs more registers than there are.
__device__ __forceinline__ Group<2> read_pair(const Dtype *pair) {
#if DTYPE_BITS == 32 && !defined(__CUDA_EMU__)
  Group<2> g;
  asm volatile("ld.volatile.shared.v2.f32 {%0, %1}, [%2];" : "=f"(g.e[0]), "=f"(g.e[1]) : "r"(shared_address(pair)));
  return g;
#else
  return *(const Group<2> *)pair;
#endif
}

// A block's sums: COUNT groups of four in each thread, and `each` says where they belong. With SUM_ROWS also the sums of
// the first operand's rows, for a bias: ROWS in each thread.
template <class S, bool SUM_ROWS = false>
struct Sums {
  static const int COUNT = S::TM * S::TN / 4, ROWS = SUM_ROWS ? (S::BM + S::THREADS - 1) / S::THREADS : 0;
  static const int SIZE = (4 * COUNT + ROWS) * S::THREADS;
  Dtype sums[COUNT][4], rows[ROWS + 1];
  int row, column;  // the thread's first ones

  __device__ __forceinline__ Sums() {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    row = warp / (S::BN / S::WARP_N) * S::WARP_M, column = warp % (S::BN / S::WARP_N) * S::WARP_N;
    row += lane / (32 / S::LANES) * 4, column += lane % (32 / S::LANES) * 4;
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < COUNT; i++)
#pragma unroll
      for (int e = 0; e < 4; e++) sums[i][e] = 0;
#pragma unroll
    for (int i = 0; i < ROWS; i++) rows[i] = 0;
  }

  // Puts a part of a tile into global memory, and adds one from there.
  __device__ __forceinline__ void put(Dtype *part) const {
#pragma unroll
    for (int i = 0; i < COUNT; i++)
      ((Group<4> *)part)[i * S::THREADS + threadIdx.x] = {sums[i][0], sums[i][1], sums[i][2], sums[i][3]};
#pragma unroll
    for (int i = 0; i < ROWS; i++) part[(4 * COUNT + i) * S::THREADS + threadIdx.x] = rows[i];
  }
  __device__ __forceinline__ void add(const Dtype *part) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
      const Group<4> g = ((const Group<4> *)part)[i * S::THREADS + threadIdx.x];
#pragma unroll
      for (int e = 0; e < 4; e++) sums[i][e] += g.e[e];
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) rows[i] += part[(4 * COUNT + i) * S::THREADS + threadIdx.x];
  }

  template <class PA>
  __device__ __forceinline__ void sum_rows(const Dtype *a) {
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      const int r = threadIdx.x + i * S::THREADS;
      if (S::BM % S::THREADS == 0 || r < S::BM)
#pragma unroll
        for (int k = 0; k < S::BK; k++) rows[i] += a[PA::at(r, k)];
    }
  }
  template <class F>  // f(row, sum)
  __device__ __forceinline__ void each_row(const F &f) const {
#pragma unroll
    for (int i = 0; i < ROWS; i++)
      if (S::BM % S::THREADS == 0 || threadIdx.x + i * S::THREADS < S::BM) f(threadIdx.x + i * S::THREADS, rows[i]);
  }

  // A thread's rows and columns are groups of four neighbours, spread over those of the warp.
  static const int WIDTH = 4, COLUMNS = S::TN, ROW_LANES = 32 / S::LANES;  // of a group, of a thread; that share a row
  static const int SPREAD_M = S::LANES * 4, SPREAD_N = 32 / S::LANES * 4;

  // DEPTH elements of each of N rows of a panel; `panel` is at the thread's first row.
  template <class P, int N, int SPREAD, int DEPTH>
  static __device__ __forceinline__ void read(const Dtype *panel, int k, Dtype (&x)[DEPTH][N]) {
#pragma unroll
    for (int i = 0; i < N; i++) {
      const int r = i / 4 * SPREAD + i % 4;
      if (P::ALONG_K) {
        const Group<2> g = read_pair(panel + P::at(r, k));
        x[0][i] = g.e[0], x[DEPTH - 1][i] = g.e[1];
      } else if (i % VECTOR == 0) {
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
          const Group<VECTOR> g = *(const Group<VECTOR> *)(panel + P::at(r, k + d));
#pragma unroll
          for (int e = 0; e < VECTOR; e++) x[d][i + e] = g.e[e];
        }
      }
    }
  }

  template <class PA, class PB>
  __device__ __forceinline__ void multiply(const Dtype *a, const Dtype *b) {
    const int DEPTH = PA::ALONG_K || PB::ALONG_K ? 2 : 1;
    a += PA::at(row, 0), b += PB::at(column, 0);
#pragma unroll
    for (int k = 0; k < S::BK; k += DEPTH) {
      Dtype x[DEPTH][S::TM], y[DEPTH][S::TN];
      read<PA, S::TM, SPREAD_M>(a, k, x);
      read<PB, S::TN, SPREAD_N>(b, k, y);
#pragma unroll
      for (int d = 0; d < DEPTH; d++)
#pragma unroll
        for (int i = 0; i < S::TM; i++)
#pragma unroll
          for (int j = 0; j < S::TN; j++) sums[(i * S::TN + j) / 4][j % 4] += x[d][i] * y[d][j];
    }
  }

  template <class F>  // f(row, column, four neighbours of that row, which it may change)
  __device__ __forceinline__ void each(const F &f) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
      const int r = i / (S::TN / 4), c = i % (S::TN / 4);
      Group<4> four = {sums[i][0], sums[i][1], sums[i][2], sums[i][3]};
      f(row + r / 4 * SPREAD_M + r % 4, column + c * SPREAD_N, four);
#pragma unroll
      for (int e = 0; e < 4; e++) sums[i][e] = four.e[e];
    }
  }
};

// Elements of a block's ring.
template <class S, class A, class B>
struct Ring {
  static const int STAGE = A::To::SIZE + B::To::SIZE, SIZE = S::STAGES * STAGE;
};

// The sums over `steps` steps of BK, for which the operands' copies are ready to begin.
template <class S, class A, class B, bool SUM_ROWS>
__device__ __forceinline__ void multiply(Dtype *ring, int steps, A &a, B &b, Sums<S, SUM_ROWS> &sums, bool rows = false) {
  const int STAGE = Ring<S, A, B>::STAGE;
  Dtype *full = ring, *empty = ring;
#pragma unroll
  for (int s = 0; s < S::STAGES - 1; s++, empty += STAGE) {
    a.next(empty), b.next(empty + A::To::SIZE);
    copies_commit();
  }
  sums.clear();
  for (; steps > 0; steps--) {
    copies_wait<S::STAGES - 2>();
    __syncthreads();  // the copies of this step are done, and nobody reads the buffer of the last one
    a.next(empty), b.next(empty + A::To::SIZE);
    copies_commit();
    sums.template multiply<typename A::To, typename B::To>(full, full + A::To::SIZE);
    if (SUM_ROWS && rows) sums.template sum_rows<typename A::To>(full);
    empty = full;
    full = full == ring + Ring<S, A, B>::SIZE - STAGE ? ring : full + STAGE;
  }
  copies_wait<0>();
  __syncthreads();  // the ring may be filled again
}

// ---- operands that are matrices: row0 is the first row, `rows` and k_end limit what is read ----

// Element (i, k) at data[i * stride + k]. WIDE: 16 bytes are copied at once; data, stride and limits are multiples of it.
template <class S, int R, bool WIDE>
struct AlongK {
  typedef Panel<R, S::BK, WIDE, 4> To;
  static const int N = WIDE ? VECTOR : 1, LANES = WIDE ? S::BK / N : 8, STEP = S::THREADS / LANES;
  const Dtype *from;
  const long long stride;
  const int i, k, rows;  // where this thread begins, and how many rows there are from its first
  int left;              // what is left along k

  __device__ AlongK(const Dtype *data, long long stride, int row0, int rows, int k_begin, int k_end)
      : stride(stride),
        i(threadIdx.x / LANES),
        k(threadIdx.x % LANES * N),
        rows(rows - row0 - i),
        left(k_end - k_begin - k) {
    from = data + (row0 + i) * stride + k_begin + k;
  }

  __device__ __forceinline__ void next(Dtype *to) {
#pragma unroll
    for (int r = 0; r < R; r += STEP)
#pragma unroll
      for (int j = 0; j < S::BK; j += LANES * N)
        if (R % STEP == 0 || i + r < R)
          copy_async<N * sizeof(Dtype)>(to + To::at(i, k) + To::at(r, j), from + r * stride + j, r < rows && j < left);
    from += S::BK, left -= S::BK;
  }
};

// Element (i, k) at data[i + k * stride].
template <class S, int R, bool WIDE>
struct AcrossK {
  typedef Panel<R, S::BK, false> To;
  static const int N = WIDE ? VECTOR : 1, LANES = R / N < S::THREADS ? R / N : S::THREADS, STEP = S::THREADS / LANES;
  const Dtype *from;
  const long long stride;
  const int i, k, rows;
  int left;

  __device__ AcrossK(const Dtype *data, long long stride, int row0, int rows, int k_begin, int k_end)
      : stride(stride),
        i(threadIdx.x % LANES * N),
        k(threadIdx.x / LANES),
        rows(rows - row0 - i),
        left(k_end - k_begin - k) {
    from = data + row0 + i + (k_begin + k) * stride;
  }

  __device__ __forceinline__ void next(Dtype *to) {
#pragma unroll
    for (int j = 0; j < S::BK; j += STEP)
#pragma unroll
      for (int r = 0; r < R; r += LANES * N)
        if (S::BK % STEP == 0 || k + j < S::BK)
          copy_async<N * sizeof(Dtype)>(to + To::at(i, k) + To::at(r, j), from + j * stride + r, r < rows && j < left);
    from += S::BK * stride, left -= S::BK;
  }
};

#include "split.cuh"
