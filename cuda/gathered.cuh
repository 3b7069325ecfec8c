// The core of every matrix product: tiles of A and B are loaded into shared memory, and from there into registers.
//
// A block of 256 threads computes a BM x BN tile of the product in steps of BK along k. The tiles are double-buffered:
// while one step is multiplied, the next one is loaded from device memory. Operands are objects, so that a convolution
// can gather patches of an image instead of rows of a matrix. Each operand defines
//
//   ALONG_K       whether neighbours along k are contiguous in memory: determines which thread loads which element
//   Line line(i)  the part of an address that depends on row i (of the second operand: column i); kept in registers
//   depth(k)      the part of an address that depends on k
//   at(line, depth)  the element
//
// and store(row, column, sum) receives the results. Compiled with TF32 defined, products of floats are computed by
// tensor cores, which round the operands to 10 bits of fraction (and accumulate in float); without tensor cores the
// operands are rounded in the same way and multiplied in float.

const int THREADS = 256;
const int BLOCKS = DTYPE_BITS == 32 ? 2 : 1;  // resident blocks per multiprocessor: bounds the registers of a thread

#ifdef TF32
const int PAD = 8;  // avoids bank conflicts when a warp loads fragments
#else
const int PAD = 4;  // avoids bank conflicts of stores along k
#endif

#if defined(TF32) && !defined(__CUDA_EMU__) && __CUDA_ARCH__ >= 800
#define TENSOR_CORES
#endif

// The buffers of a block, and the division of work: each thread computes TM x TN sums.
template <int BM_, int BN_, int BK_, int TM_, int TN_>
struct Tile {
  static const int BM = BM_, BN = BN_, BK = BK_, TM = TM_, TN = TN_;
  static const int LOADS_A = BM * BK / THREADS, LOADS_B = BN * BK / THREADS;
  static_assert((BM / TM) * (BN / TN) == THREADS, "each thread owns TM x TN of the BM x BN tile");
  static_assert(LOADS_A * THREADS == BM * BK && LOADS_B * THREADS == BN * BK, "threads share the loading evenly");
  __align__(16) Dtype a[2][BK][BM + PAD];
  __align__(16) Dtype b[2][BK][BN + PAD];
};

__device__ __forceinline__ int tiles(int n, int size) { return ((unsigned)n + size - 1) / size; }

// The position of a block among columns x rows x layers. Grids are 1-d, because only gridDim.x may exceed 65535.
struct Cell {
  int column, row, layer;
  __device__ Cell(int columns, int rows)
      : column(blockIdx.x % columns), row(blockIdx.x / columns % rows), layer(blockIdx.x / columns / rows) {}
};

__device__ __forceinline__ Dtype rounded(Dtype value) {
#ifdef TENSOR_CORES
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return __uint_as_float(bits);
#elif defined(TF32)
  return value == value ? __uint_as_float((__float_as_uint(value) + 0x1000u) & 0xffffe000u) : value;
#else
  return value;
#endif
}

#ifdef TENSOR_CORES
// Eight warps, WM of them along the rows; each computes FM x FN products of 16 x 8 x 8.
template <class T>
struct Sums {
  static const int WM = T::BM >= 64 ? 2 : 1, WN = 8 / WM;
  static const int FM = T::BM / WM / 16, FN = T::BN / WN / 8;
  float sums[FM][FN][4];
  int row, column, group, lane;

  __device__ Sums() {
    const int warp = threadIdx.x / 32;
    row = warp / WN * (T::BM / WM), column = warp % WN * (T::BN / WN);
    group = threadIdx.x % 32 / 4, lane = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < FM; i++)
#pragma unroll
      for (int j = 0; j < FN; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) sums[i][j][e] = 0;
  }

  __device__ __forceinline__ void add(const T &tile, int half) {
#pragma unroll
    for (int k = 0; k < T::BK; k += 8) {
      unsigned a[FM][4], b[FN][2];
#pragma unroll
      for (int i = 0; i < FM; i++)
#pragma unroll
        for (int e = 0; e < 4; e++)
          a[i][e] = __float_as_uint(tile.a[half][k + lane + e / 2 * 4][row + i * 16 + group + e % 2 * 8]);
#pragma unroll
      for (int j = 0; j < FN; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) b[j][e] = __float_as_uint(tile.b[half][k + lane + e * 4][column + j * 8 + group]);
#pragma unroll
      for (int i = 0; i < FM; i++)
#pragma unroll
        for (int j = 0; j < FN; j++) {
          float *s = sums[i][j];
          asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
              : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3])
              : "r"(a[i][0]), "r"(a[i][1]), "r"(a[i][2]), "r"(a[i][3]), "r"(b[j][0]), "r"(b[j][1]));
        }
    }
  }

  template <class F>
  __device__ __forceinline__ void each(const F &f) const {
#pragma unroll
    for (int i = 0; i < FM; i++)
#pragma unroll
      for (int j = 0; j < FN; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
          f(row + i * 16 + group + e / 2 * 8, column + j * 8 + lane * 2 + e % 2, sums[i][j][e]);
  }
};
#else
// A thread's rows and columns are groups of four neighbours, and the groups are spread over the tile: reads are 16
// bytes wide, with the fewest bank conflicts in a warp.
template <class T>
struct Sums {
  static const int SPREAD_M = T::BM / T::TM * 4, SPREAD_N = T::BN / T::TN * 4;
  Dtype sums[T::TM][T::TN];
  int ty, tx;

  __device__ Sums() : ty(threadIdx.x / (T::BN / T::TN) * 4), tx(threadIdx.x % (T::BN / T::TN) * 4) {
#pragma unroll
    for (int i = 0; i < T::TM; i++)
#pragma unroll
      for (int j = 0; j < T::TN; j++) sums[i][j] = 0;
  }

  __device__ __forceinline__ void add(const T &tile, int half) {
#pragma unroll
    for (int k = 0; k < T::BK; k++) {
      Dtype a[T::TM], b[T::TN];
#pragma unroll
      for (int i = 0; i < T::TM; i++) a[i] = tile.a[half][k][i / 4 * SPREAD_M + ty + i % 4];
#pragma unroll
      for (int j = 0; j < T::TN; j++) b[j] = tile.b[half][k][j / 4 * SPREAD_N + tx + j % 4];
#pragma unroll
      for (int i = 0; i < T::TM; i++)
#pragma unroll
        for (int j = 0; j < T::TN; j++) sums[i][j] += a[i] * b[j];
    }
  }

  template <class F>
  __device__ __forceinline__ void each(const F &f) const {
#pragma unroll
    for (int i = 0; i < T::TM; i++)
#pragma unroll
      for (int j = 0; j < T::TN; j++) f(i / 4 * SPREAD_M + ty + i % 4, j / 4 * SPREAD_N + tx + j % 4, sums[i][j]);
  }
};
#endif

// Tile (tile_row, tile_column) of the product over k_begin <= k < k_end. Rows and columns past m and n are computed
// with the operands of the last ones, and not stored.
template <class T, class A, class B, class Store>
__device__ __forceinline__ void multiply(T &tile, int m, int n, int k_begin, int k_end, int tile_row, int tile_column,
                                         const A &a, const B &b, const Store &store) {
  const int row0 = tile_row * T::BM, column0 = tile_column * T::BN, thread = threadIdx.x;
  typename A::Line rows[T::LOADS_A];
  typename B::Line columns[T::LOADS_B];
  Dtype next_a[T::LOADS_A], next_b[T::LOADS_B];
#pragma unroll
  for (int i = 0; i < T::LOADS_A; i++) {
    const int e = thread + i * THREADS;
    rows[i] = a.line(row0 + min(A::ALONG_K ? e / T::BK : e % T::BM, m - 1 - row0));
  }
#pragma unroll
  for (int i = 0; i < T::LOADS_B; i++) {
    const int e = thread + i * THREADS;
    columns[i] = b.line(column0 + min(B::ALONG_K ? e / T::BK : e % T::BN, n - 1 - column0));
  }

  auto fetch = [&](int k0) {
#pragma unroll
    for (int i = 0; i < T::LOADS_A; i++) {
      const int e = thread + i * THREADS, k = A::ALONG_K ? e % T::BK : e / T::BM;
      next_a[i] = k < k_end - k0 ? a.at(rows[i], a.depth(k0 + k)) : Dtype(0);
    }
#pragma unroll
    for (int i = 0; i < T::LOADS_B; i++) {
      const int e = thread + i * THREADS, k = B::ALONG_K ? e % T::BK : e / T::BN;
      next_b[i] = k < k_end - k0 ? b.at(columns[i], b.depth(k0 + k)) : Dtype(0);
    }
  };
  auto keep = [&](int half) {
#pragma unroll
    for (int i = 0; i < T::LOADS_A; i++) {
      const int e = thread + i * THREADS;
      tile.a[half][A::ALONG_K ? e % T::BK : e / T::BM][A::ALONG_K ? e / T::BK : e % T::BM] = rounded(next_a[i]);
    }
#pragma unroll
    for (int i = 0; i < T::LOADS_B; i++) {
      const int e = thread + i * THREADS;
      tile.b[half][B::ALONG_K ? e % T::BK : e / T::BN][B::ALONG_K ? e / T::BK : e % T::BN] = rounded(next_b[i]);
    }
  };

  Sums<T> sums;
  int half = 0;
  fetch(k_begin);
  keep(half);
  __syncthreads();
  for (int left = k_end - k_begin; left > 0; left -= T::BK) {
    const bool more = left > T::BK;
    if (more) fetch(k_end - left + T::BK);
    sums.add(tile, half);
    half ^= 1;
    if (more) keep(half);
    __syncthreads();
  }
  sums.each([&](int i, int j, Dtype sum) {
    if (i < m - row0 && j < n - column0) store(row0 + i, column0 + j, sum);
  });
}

// ---- operands that are matrices ----

struct AlongK {  // element (i, k) at i * stride + k
  static const bool ALONG_K = true;
  typedef const Dtype *Line;
  const Dtype *data;
  long long stride;
  __device__ Line line(int i) const { return data + i * stride; }
  __device__ int depth(int k) const { return k; }
  __device__ Dtype at(Line line, int k) const { return line[k]; }
};

struct AcrossK {  // element (i, k) at i + k * stride
  static const bool ALONG_K = false;
  typedef const Dtype *Line;
  const Dtype *data;
  long long stride;
  __device__ Line line(int i) const { return data + i; }
  __device__ long long depth(int k) const { return k * stride; }
  __device__ Dtype at(Line line, long long k) const { return line[k]; }
};
