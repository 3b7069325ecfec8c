// The core of products by tensor cores (sm_80 and later): C[m][n] = sum over k of A[m][k] B[n][k].
//
// Compiled with BF16 defined, elements are bfloat16; else they are float, rounded to TF32 as they are multiplied. Sums
// are float. Memory is read in chunks of 16 bytes. A step of the pipeline is 128 bytes of k for each row of a tile:
// asynchronous copies fill STAGES buffers in shared memory, STAGES - 1 steps ahead of the products, and zeros are
// written for chunks outside the operand. Instructions are the same for both kinds of elements, as 16 bytes hold one
// row of an 8 x 8 matrix of bfloat16 and of an 8 x 4 matrix of float.
//
// Two layouts of a tile in shared memory, both without bank conflicts, as the position of a chunk is exchanged within
// its 128 bytes by an exclusive or with the number of its row:
//   Along   an operand with k contiguous: a row of the tile is 128 bytes of k; read by `ldmatrix`.
//   Across  an operand with rows contiguous: a row holds all elements of one k. bfloat16 is read by `ldmatrix.trans`.
//           Floats are read 16 bytes at a time: a thread then has 4 neighbouring rows of its k, and takes them as its rows
//           of 4 fragments. Which row of the product that is, is known to `Sums::row` and `Sums::column` alone.
#include "instructions.cuh"

#if defined(__CUDA_EMU__) || __CUDA_ARCH__ >= 800
#define TENSOR_CORES
#endif

#ifdef BF16
typedef unsigned short Element;
#else
typedef float Element;
#endif
const int CHUNK = 16 / (int)sizeof(Element);  // elements
const int STEP = 8 * CHUNK;                   // k of a step
const int STAGES = 3;
const int SUBSTEPS = 4;  // of 32 bytes: the depth of one product of fragments

#ifdef TENSOR_CORES

#ifdef BF16
__device__ const uint4 ONE = {0x3f80, 0, 0, 0};
#else
__device__ const uint4 ONE = {0x3f800000, 0, 0, 0};
#endif

extern __shared__ __align__(1024) uint4 tensor_memory[];

// The tile of a block among columns x rows x groups, and its share: grid (tiles, shares).
struct Cell {
  int column, row, group, share, tile;
  __device__ Cell(int columns, int rows, int groups) : tile(blockIdx.x), share(blockIdx.y) {
    row = (unsigned)tile / columns, column = tile - row * columns, group = 0;
    if (groups > 1) group = (unsigned)row / rows, row -= group * rows;
  }
};

// The steps of a share: as many as of any other, or one more.
struct Part {
  int begin, count;
  __device__ Part(int steps, int share, int shares) : begin(0), count(steps) {
    if (shares == 1) return;
    const int each = (unsigned)steps / shares, more = steps - each * shares;
    begin = share * each + min(share, more), count = each + (share < more);
  }
};

// A tile of BM x BN; each warp computes WM x WN of it.
template <int BM_, int BN_, int WM_, int WN_>
struct Shape {
  static const int BM = BM_, BN = BN_, WM = WM_, WN = WN_, THREADS = BM / WM * (BN / WN) * 32;
  static const int FM = WM / 16, FN = WN / 8;  // fragments of a warp
  static const int STAGE = (BM + BN) * 128;    // bytes of a stage: A, then B
  static_assert(WM % 32 == 0 && WN % 32 == 0, "fragments of 32 rows are read at once");
  static_assert(BM * BN * 4 <= STAGES * STAGE, "the tail keeps the product in the stages' memory");
  static const int WARPS_M = BM / WM;  // warps side by side along the rows
  static __device__ __forceinline__ int warp_m() { return threadIdx.x / 32 / (BN / WN); }
  static __device__ __forceinline__ int warp_row() { return warp_m() * WM; }
  static __device__ __forceinline__ int warp_column() { return threadIdx.x / 32 % (BN / WN) * WN; }
};

#ifdef WGMMA
// A tile of BM x BN that a group of four warps computes together, 64 rows at a time; warp w has rows w * 16 to w * 16 + 15
// of each 64. Both operands have k contiguous.
template <int BM_, int BN_>
struct GroupShape {
  static const int BM = BM_, BN = BN_, WM = BM_, WN = BN_, THREADS = 128;
  static const int FM = BM / 64, FN = BN / 8;
  static const int STAGE = (BM + BN) * 128;
  static const int WARPS_M = 4;
  static __device__ __forceinline__ int warp_m() { return threadIdx.x / 32; }
};
struct Grouped {};  // the layout of both operands in `Sums` of such a tile
#endif

template <class S>
struct Fragments {
  unsigned a[S::FM][4], b[S::FN][2];
};

__device__ __forceinline__ void multiply(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef BF16
  multiply_bf16(sums, a, b);
#else
  multiply_tf32(sums, a, b);
#endif
}

// Tensor cores ignore the lower 13 bits of a float. Adding half of the last bit that they read rounds to nearest, with
// ties away from zero, as cvt.rna.tf32.f32 does, in two instructions (that one takes three); nan and inf stay.
__device__ __forceinline__ unsigned rounded(unsigned bits) {
#ifdef BF16
  return bits;
#else
  return __float_as_uint(fmaf(__uint_as_float(bits & 0xff800000u), 0x1p-11f, __uint_as_float(bits)));
#endif
}

// Keeps the compiler from computing an address anew each time that it is used.
template <class T>
__device__ __forceinline__ const T *hoisted(const T *pointer) {
#ifndef __CUDA_EMU__
  asm("" : "+l"(pointer));
#endif
  return pointer;
}

// pointer + index * scale bytes; compilers make three instructions of it.
__device__ __forceinline__ const char *scaled(const char *pointer, int index, int scale) {
#ifdef __CUDA_EMU__
  return pointer + (long long)index * scale;
#else
  const char *sum;
  asm("mad.wide.s32 %0, %1, %2, %3;" : "=l"(sum) : "r"(index), "r"(scale), "l"(pointer));
  return sum;
#endif
}

// ---- layouts ----

// How a warp reads the fragments of one operand, ROWS x WARP of them from row `first` on, from a tile.
template <int ROWS, int WARP, bool ROUNDED = false>
struct Along {
  static const bool SPREAD = false;  // whether rows are spread over fragments as `Sums::row` describes for floats
  static __device__ __forceinline__ int position(int row, int chunk) { return row * 128 + ((chunk ^ (row & 7)) << 4); }

  int from;
  // Lanes 8 to 15 name the rows of the second matrix of `ldmatrix`: of A the next 8 rows, of B the next 8 k.
  __device__ Along(int first, bool a) {
    const int lane = threadIdx.x % 32;
    from = a ? position(first + lane % 16, lane / 16) : position(first + lane / 16 * 8 + lane % 8, lane / 8 % 2);
  }
  __device__ __forceinline__ void load(unsigned (&four)[4], const char *tile, int substep, int rows) const {
    load_matrices(four, tile + (from ^ substep * 32) + rows * 128);
#pragma unroll
    for (int e = 0; e < 4; e++) four[e] = ROUNDED ? four[e] : rounded(four[e]);
  }
  __device__ __forceinline__ void load_a(unsigned (&a)[WARP / 16][4], const char *tile, int substep) const {
#pragma unroll
    for (int i = 0; i < WARP / 16; i++) load(a[i], tile, substep, i * 16);
  }
  __device__ __forceinline__ void load_b(unsigned (&b)[WARP / 8][2], const char *tile, int substep) const {
#pragma unroll
    for (int j = 0; j < WARP / 8; j += 2) {
      unsigned two[4];
      load(two, tile, substep, j * 8);
      b[j][0] = two[0], b[j][1] = two[1], b[j + 1][0] = two[2], b[j + 1][1] = two[3];
    }
  }
};

#ifdef BF16
template <int ROWS, int WARP>
struct Across {
  static const bool SPREAD = false;
  static __device__ __forceinline__ int position(int k, int chunk) {
    return (k * (ROWS / CHUNK) + (chunk ^ (ROWS / CHUNK >= 8 ? k & 7 : k >> 1 & 3))) << 4;
  }

  int from[WARP / 16];
  __device__ Across(int first, bool a) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < WARP / 16; i++) {
      const int chunk = first / 8 + i * 2;
      from[i] = a ? position(lane % 8 + lane / 16 * 8, chunk + lane / 8 % 2) : position(lane % 16, chunk + lane / 16);
    }
  }
  __device__ __forceinline__ void load_a(unsigned (&a)[WARP / 16][4], const char *tile, int substep) const {
#pragma unroll
    for (int i = 0; i < WARP / 16; i++) load_matrices_transposed(a[i], tile + from[i] + substep * 16 * ROWS * 2);
  }
  __device__ __forceinline__ void load_b(unsigned (&b)[WARP / 8][2], const char *tile, int substep) const {
#pragma unroll
    for (int j = 0; j < WARP / 8; j += 2) {
      unsigned two[4];
      load_matrices_transposed(two, tile + from[j / 2] + substep * 16 * ROWS * 2);
      b[j][0] = two[0], b[j][1] = two[1], b[j + 1][0] = two[2], b[j + 1][1] = two[3];
    }
  }
};
#else
template <int ROWS, int WARP>
struct Across {
  static const bool SPREAD = true;
  static __device__ __forceinline__ int position(int k, int chunk) {
    return (k * (ROWS / CHUNK) + (chunk ^ (k & 3) << 1)) << 4;
  }

  int from;
  __device__ Across(int first, bool) {
    const int lane = threadIdx.x % 32;
    from = position(lane % 4, first / 4 + lane / 4);
  }
  __device__ __forceinline__ uint4 load(const char *tile, int substep, int half, int rows) const {
    uint4 four = *(const uint4 *)(tile + from + (substep * 8 + half * 4) * ROWS * 4 + rows * 4);
    four.x = rounded(four.x), four.y = rounded(four.y), four.z = rounded(four.z), four.w = rounded(four.w);
    return four;
  }
  __device__ __forceinline__ void load_a(unsigned (&a)[WARP / 16][4], const char *tile, int substep) const {
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
      for (int i = 0; i < WARP / 16; i += 2) {
        const uint4 four = load(tile, substep, half, i * 16);
        a[i][half * 2] = four.x, a[i][half * 2 + 1] = four.y;
        a[i + 1][half * 2] = four.z, a[i + 1][half * 2 + 1] = four.w;
      }
  }
  __device__ __forceinline__ void load_b(unsigned (&b)[WARP / 8][2], const char *tile, int substep) const {
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
      for (int j = 0; j < WARP / 8; j += 4) {
        const uint4 four = load(tile, substep, half, j * 8);
        b[j][half] = four.x, b[j + 1][half] = four.y, b[j + 2][half] = four.z, b[j + 3][half] = four.w;
      }
  }
};
#endif

// ---- sums ----

// A and B are the layouts of the operands.
template <class S, class A, class B>
struct Sums {
  float sums[S::FM][S::FN][4];

  __device__ Sums() {
    each([](int, int, int, float &sum) { sum = 0; });
  }

  // Calls f(i, j, e, sum): element e of fragment (i, j) of this thread.
  template <class F>
  __device__ __forceinline__ void each(const F &f) {
#pragma unroll
    for (int i = 0; i < S::FM; i++)
#pragma unroll
      for (int j = 0; j < S::FN; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) f(i, j, e, sums[i][j][e]);
  }

  // The row and the column of the tile that an element belongs to.
  static __device__ __forceinline__ int row(int i, int e) {
    const int group = threadIdx.x % 32 / 4;
    return S::warp_row() + (A::SPREAD ? i / 2 * 32 + group * 4 + i % 2 * 2 + e / 2 : i * 16 + group + e / 2 * 8);
  }
  static __device__ __forceinline__ int column(int j, int e) {
    const int pair = threadIdx.x % 4 * 2 + e % 2;
    return S::warp_column() + (B::SPREAD ? j / 4 * 32 + pair * 4 + j % 4 : j * 8 + pair);
  }

  __device__ __forceinline__ void add(const Fragments<S> &f) {
#pragma unroll
    for (int i = 0; i < S::FM; i++)
#pragma unroll
      for (int j = 0; j < S::FN; j++) multiply(sums[i][j], f.a[i], f.b[j]);
  }

  // A copy of all sums of a block in memory: each thread has every S::THREADS-th float4.
  static const int COPY = S::FM * S::FN * S::THREADS;
  __device__ __forceinline__ void store(float4 *copy) const {
#pragma unroll
    for (int i = 0; i < S::FM; i++)
#pragma unroll
      for (int j = 0; j < S::FN; j++) {
        const float *s = sums[i][j];
        copy[(i * S::FN + j) * S::THREADS + threadIdx.x] = make_float4(s[0], s[1], s[2], s[3]);
      }
  }
  __device__ __forceinline__ void add_copies(const float4 *copy, int count, int step) {
    each([](int, int, int, float &sum) { sum = 0; });
    for (int c = 0; c < count; c++, copy += (long long)step * COPY)
#pragma unroll
      for (int i = 0; i < S::FM; i++)
#pragma unroll
        for (int j = 0; j < S::FN; j++) {
          const float4 s = copy[(i * S::FN + j) * S::THREADS + threadIdx.x];
          sums[i][j][0] += s.x, sums[i][j][1] += s.y, sums[i][j][2] += s.z, sums[i][j][3] += s.w;
        }
  }
};

// Begins the copies of a stage, if there is one; without it too a group of copies is ended, so that waits count alike.
template <class S, class A, class B>
__device__ __forceinline__ void copy_stage(A &a, B &b, const bool any, char *stage) {
  if (any) {
    a.copy(stage);
    b.copy(stage + S::BM * 128);
  }
  copies_commit();
}

template <class S, class A, class B>
__device__ __forceinline__ void copy_first(A &a, B &b, const int steps, char *memory) {
#pragma unroll
  for (int s = 0; s < STAGES - 1; s++) copy_stage<S>(a, b, s < steps, memory + s * S::STAGE);
}

#ifdef WGMMA
template <class S>
struct Sums<S, Grouped, Grouped> : Sums<S, Along<S::BM, S::WM>, Along<S::BN, S::WN>> {
  static __device__ __forceinline__ int row(int i, int e) {
    return i * 64 + threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + e / 2 * 8;
  }
  static __device__ __forceinline__ int column(int j, int e) { return j * 8 + threadIdx.x % 4 * 2 + e % 2; }
};

// As `multiply` below, by the tensor cores of four multiprocessor quarters at once, which read shared memory themselves.
template <class S, class A, class B>
__device__ __forceinline__ void multiply(Sums<S, Grouped, Grouped> &sums, A &a, B &b, const int steps, char *memory) {
  copy_first<S>(a, b, steps, memory);
  int read = 0, write = (STAGES - 1) * S::STAGE;
  for (int left = steps; left > 0; left--) {
    copies_wait<STAGES - 2>();
    groups_may_read();
    __syncthreads();
    groups_begin();
    const unsigned long long rows = group_tile(memory + read), columns = group_tile(memory + read + S::BM * 128);
#pragma unroll
    for (int substep = 0; substep < SUBSTEPS; substep++)
#pragma unroll
      for (int i = 0; i < S::FM; i++)
        multiply_group(sums.sums[i], rows + i * (64 * 128 / 16) + substep * 2, columns + substep * 2);
    groups_commit();
    copy_stage<S>(a, b, left >= STAGES, memory + write);
    groups_wait();
    write = read;
    read = read == (STAGES - 1) * S::STAGE ? 0 : read + S::STAGE;
  }
  copies_wait<0>();
  __syncthreads();
}
#endif

// Adds the product of `steps` steps. `a.copy(stage)` and `b.copy(stage + BM * 128)` copy their next tile; memory holds
// STAGES stages. No thread reads memory any more when the function returns.
template <class S, class LayoutA, class LayoutB, class A, class B>
__device__ __forceinline__ void multiply(Sums<S, LayoutA, LayoutB> &sums, A &a, B &b, const int steps, char *memory) {
  const LayoutA rows(S::warp_row(), true);
  const LayoutB columns(S::warp_column(), false);
  copy_first<S>(a, b, steps, memory);
  int read = 0, write = (STAGES - 1) * S::STAGE;
  for (int left = steps; left > 0; left--) {
    copies_wait<STAGES - 2>();
    __syncthreads();
    copy_stage<S>(a, b, left >= STAGES, memory + write);
#pragma unroll
    for (int substep = 0; substep < SUBSTEPS; substep++) {
      Fragments<S> f;
      rows.load_a(f.a, memory + read, substep);
      columns.load_b(f.b, memory + read + S::BM * 128, substep);
      sums.add(f);
    }
    write = read;
    read = read == (STAGES - 1) * S::STAGE ? 0 : read + S::STAGE;
  }
  copies_wait<0>();
  __syncthreads();
}

// ---- shares of k ----

// A tile's k may be divided among `shares` blocks. Each block leaves its sums in memory, the last one of every `span`
// blocks adds them in the order of the shares, and the last of these adds the sums of the spans, so that results are the
// same in every run and no block adds many.
struct Shares {
  int shares, span;
  void *partial;
  void *tickets;
  __device__ int spans() const { return ((unsigned)shares + span - 1) / span; }
};

// Whether this block has the sums over all of k now.
template <class S, class A, class B>
__device__ __forceinline__ bool add_shares(Sums<S, A, B> &sums, const Shares &split, int tile, int share) {
  if (split.shares == 1) return true;
  const int spans = split.spans();
  float4 *copies = (float4 *)split.partial + (long long)tile * split.shares * sums.COPY;
  unsigned *tickets = (unsigned *)split.tickets + tile * (spans + 1);
  // First among the shares of a span, then among the first shares of all spans.
  int first = (unsigned)share / split.span, members = min(split.span, split.shares - first * split.span), apart = 1;
  tickets += first, first *= split.span;
  for (int own = share;; own = first, first = 0, members = spans, apart = split.span) {
    sums.store(copies + (long long)own * sums.COPY);
    if (!last_block(tickets, members)) return false;
    sums.add_copies(copies + (long long)first * sums.COPY, members, apart);
    if (spans == 1 || apart > 1) return true;
    tickets = (unsigned *)split.tickets + tile * (spans + 1) + spans;
  }
}

#endif  // TENSOR_CORES
