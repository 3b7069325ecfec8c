// Convolution and its gradients by tensor cores, over arrays with channels last: x is (samples, places, channels), the
// channels padded with zeros to a multiple of 8. minicaffe.cuda.tensor makes the tables and describes the method.
#include "tensor.cuh"

// A window of the table: the distance of its origin from x in chunks, and a bit for each element along each axis
// that is outside the image; bit 31 is always set. All bits are set in windows that fill the last tile.
typedef int2 Origin;
// A chunk of k: its distance from the origin in chunks, and the bits of its elements; bit 31 where there is none.
typedef int2 Tap;
// The weight that the first element of a chunk of k has: an element of the kernel (-1: none), and a channel.
typedef int2 Source;
// Places with the same taps: the first tile of windows, the first step of k, and how many steps.
typedef int4 Phase;

const int WINDOWS = 128;  // in a tile

#ifdef TENSOR_CORES

#ifdef BF16
typedef unsigned Pair;
// Rounds two neighbouring results as they are stored.
__device__ __forceinline__ Pair stored(float &first, float &second) {
  const Pair pair = pair_bf16(first, second);
  first = from_bf16(pair & 0xffff), second = from_bf16(pair >> 16);
  return pair;
}
__device__ __forceinline__ float value(Element element) { return from_bf16(element); }
#else
typedef float2 Pair;
__device__ __forceinline__ Pair stored(float first, float second) { return make_float2(first, second); }
__device__ __forceinline__ float value(Element element) { return element; }
#endif

// ---- forward, and the gradient of the data ----

template <class S>
struct Patches {  // the elements of windows; a thread copies one chunk of k for COPIES windows
  static const int COPIES = S::BM * 8 / S::THREADS;
  const uint4 *x;
  int line[COPIES], outside[COPIES], to;
  const Tap *taps;
  Tap next;

  __device__ Patches(const uint4 *x, const Origin *origins, const Tap *first) : x(hoisted(x)) {
    const int row = threadIdx.x / 8, chunk = threadIdx.x % 8;
#pragma unroll
    for (int i = 0; i < COPIES; i++) {
      const Origin origin = origins[row + i * (S::THREADS / 8)];
      line[i] = origin.x, outside[i] = origin.y;
    }
    to = Along<S::BM, S::WM>::position(row, chunk);
    taps = first + chunk;
    next = *taps;
  }
  __device__ __forceinline__ void copy(char *tile) {
    const Tap tap = next;
    taps += 8;
    next = *taps;  // for the next step: the table has one step more
#pragma unroll
    for (int i = 0; i < COPIES; i++)
      copy_async<16>(tile + to + i * (S::THREADS / 8) * 128, x + (line[i] + tap.x), !(outside[i] & tap.y));
  }
};

template <class S>
struct Weights {  // packed: the tiles of a step lie one after the other
  static const int COPIES = S::BN * 8 / S::THREADS;
  const uint4 *from;
  int step, to;

  __device__ Weights(const uint4 *first, int padded)
      : from(first + threadIdx.x), step(padded * 8), to(Along<S::BN, S::WN>::position(threadIdx.x / 8, threadIdx.x % 8)) {}
  __device__ __forceinline__ void copy(char *tile) {
#pragma unroll
    for (int i = 0; i < COPIES; i++)
      copy_async<16>(tile + to + i * (S::THREADS / 8) * 128, from + i * S::THREADS);
    from += step;
  }
};

// Mean and sum of squared deviations of each column of the tile over its first `count` rows, to result[column * step].
// `stored` is the tile's first row as it is stored: deviations from it are summed, so that a large mean does no harm.
template <class S, class A, class B>
__device__ __forceinline__ void find_moments(Sums<S, A, B> &sums, const int count, const int columns, const int step,
                                             const Element *stored, float2 *memory, float2 *result) {
  if (count < S::BM)
    sums.each([&](int i, int j, int e, float &sum) {
      if (sums.row(i, e) >= count) sum = value(stored[sums.column(j, e)]);
    });
#pragma unroll
  for (int j = 0; j < S::FN; j++)
#pragma unroll
    for (int e = 0; e < 2; e++) {
      const float shift = value(stored[sums.column(j, e)]);
      float2 all = make_float2(0, 0);  // sums of deviations and of their squares
#pragma unroll
      for (int i = 0; i < S::FM; i++)
#pragma unroll
        for (int half = 0; half < 4; half += 2) {
          const float deviation = sums.sums[i][j][half + e] - shift;
          all.x += deviation, all.y += deviation * deviation;
        }
#pragma unroll
      for (int d = 4; d < 32; d *= 2) {
        all.x += __shfl_xor_sync(0xffffffffu, all.x, d);
        all.y += __shfl_xor_sync(0xffffffffu, all.y, d);
      }
      if (threadIdx.x % 32 < 4) memory[S::warp_m() * S::BN + sums.column(j, e)] = all;
    }
  __syncthreads();
  const int column = threadIdx.x;
  if (column >= min(columns, S::BN)) return;
  float2 all = memory[column];
  for (int w = 1; w < S::WARPS_M; w++) {
    const float2 more = memory[w * S::BN + column];
    all.x += more.x, all.y += more.y;
  }
  const float mean = all.x / count;
  result[(long long)column * step] = make_float2(value(stored[column]) + mean, max(all.y - all.x * mean, 0.0f));
}

struct Outputs {
  uint4 *y;         // the group's first channel
  const int *outs;  // where window i goes, -1: nowhere; 0: window i of `windows` goes to place i
  int windows, row;  // chunks between places
  const float *bias;
  bool relu;
  float slope;
  float2 *moments;
  int parts;
  int channels;  // of a group
};

template <class S, class A, class B>
__device__ __forceinline__ void finish(Sums<S, A, B> &sums, const Outputs &out, const int row0, const int column0,
                                       char *memory) {
  const int columns = out.channels - column0;
  if (out.bias) {
#pragma unroll
    for (int j = 0; j < S::FN; j++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const int column = sums.column(j, e);
        const float bias = column < columns ? out.bias[column0 + column] : 0.0f;
#pragma unroll
        for (int i = 0; i < S::FM; i++) sums.sums[i][j][e] += bias, sums.sums[i][j][e + 2] += bias;
      }
  }
  if (out.relu) {
    if (out.slope == 0)
      sums.each([](int, int, int, float &sum) { sum = sum < 0 ? 0.0f : sum; });
    else
      sums.each([&](int, int, int, float &sum) { sum = sum < 0 ? sum * out.slope : sum; });
  }
#pragma unroll
  for (int j = 0; j < S::FN; j++)
#pragma unroll
    for (int i = 0; i < S::FM; i++)
#pragma unroll
      for (int half = 0; half < 4; half += 2) {
        const int column = sums.column(j, 0);
        const int to = Across<S::BN, S::WN>::position(sums.row(i, half), column / CHUNK);
        *(Pair *)(memory + to + column % CHUNK * (int)sizeof(Element)) =
            stored(sums.sums[i][j][half], sums.sums[i][j][half + 1]);
      }
  __syncthreads();
  if (out.moments)
    find_moments(sums, min(out.windows - row0, S::BM), columns, out.parts, (const Element *)memory,
                 (float2 *)(memory + S::BM * S::BN * 4), out.moments + (long long)column0 * out.parts + row0 / S::BM);
  const int row_chunks = S::BN / CHUNK, chunk = threadIdx.x % row_chunks;
  if (chunk * CHUNK >= (columns + 7) / 8 * 8) return;
  uint4 *y = out.y + column0 / CHUNK + chunk;
#pragma unroll 4
  for (int row = threadIdx.x / row_chunks; row < S::BM; row += S::THREADS / row_chunks) {
    const int i = row0 + row, to = out.outs ? out.outs[i] : i < out.windows ? i : -1;
    if (to >= 0)
      y[(long long)to * out.row] = *(const uint4 *)(memory + Across<S::BN, S::WN>::position(row, chunk));
  }
}

#ifdef WGMMA
template <class S>
using Operands = Sums<S, Grouped, Grouped>;
#define CORRELATION(bn, wm, wn) GroupShape<WINDOWS, bn>
#else
template <class S>
using Operands = Sums<S, Along<S::BM, S::WM>, Along<S::BN, S::WN, true>>;  // weights are rounded when they are packed
#define CORRELATION(bn, wm, wn) Shape<WINDOWS, bn, wm, wn>
#endif

template <class S>
__device__ __forceinline__ void correlate(const int columns, const int rows, const int groups, const Shares split,
                                          const int phases, const Phase *phase, const Tap *taps, const Origin *origins,
                                          const uint4 *x, const int in_group, const uint4 *w, const int padded,
                                          const int steps, const int out_group, Outputs out) {
  char *memory = (char *)tensor_memory;
  const Cell at(columns, rows, groups);
  while (phases > 1 && at.row >= phase[1].x) phase++;  // the table ends with the number of all tiles
  const Part part(phase->z, at.share, split.shares);
  const int step = phase->y + part.begin;
  const int row0 = at.row * S::BM, column0 = at.column * S::BN;
  Operands<S> sums;
  {
    Patches<S> patches(x + (long long)at.group * in_group, origins + row0, taps + step * 8);
    Weights<S> weights(w + (((long long)at.group * steps + step) * padded + column0) * 8, padded);
    multiply(sums, patches, weights, part.count, memory);
  }
  if (!add_shares(sums, split, at.tile, at.share)) return;
  out.y += (long long)at.group * out_group;
  if (out.bias) out.bias += at.group * out.channels;
  if (out.moments) out.moments += (long long)at.group * out.channels * out.parts;
  finish(sums, out, row0, column0, memory);
}

// ---- the gradient of the weights ----

template <class S>
struct Gradients {  // element (i, k): channel i of window k of dy; a thread copies one chunk of COPIES windows
  static const int ROW = S::BM / CHUNK, COPIES = S::BM * 8 / S::THREADS, APART = S::THREADS / ROW;
  static_assert(APART * sizeof(Element) % 16 == 0, "chunks are exchanged within 8 rows, of floats 4");
  const uint4 *from;
  int row, to, left;

  __device__ Gradients(const uint4 *dy, int row, int channels, int windows) : row(row), from(dy) {
    const int chunk = threadIdx.x % ROW, k = threadIdx.x / ROW;
    from = hoisted(from + (long long)k * row + chunk);
    to = Across<S::BM, S::WM>::position(k, chunk);
    left = chunk * CHUNK < channels ? windows - k : 0;
  }
  __device__ __forceinline__ void copy(char *tile) {
#pragma unroll
    for (int i = 0; i < COPIES; i++)
      copy_async<16>(tile + to + i * APART * S::BM * (int)sizeof(Element), from + i * APART * row, i * APART < left);
    from += STEP * row;
    left -= STEP;
  }
};

template <class S>
struct Samples {  // element (k, j): element j of window k; a thread copies the same chunk of COPIES windows
  static const int ROW = S::BN / CHUNK, COPIES = S::BN * 8 / S::THREADS, APART = S::THREADS / ROW;
  static const int TURNS = APART * (int)sizeof(Element) % 16 ? 2 : 1;  // copies until chunks are exchanged as in the first
  static_assert(TURNS * APART * sizeof(Element) % 16 == 0, "chunks are exchanged within 8 rows, of floats 4");
  const char *base;
  int mask, scale, to[TURNS];  // scale: bytes of a chunk, or 0 in the column of ones
  const Origin *origins;
  Origin next[COPIES];

  __device__ Samples(const uint4 *x, const Origin *first, const Tap *taps, int column, int count, bool ones) {
    const int chunk = column / CHUNK + threadIdx.x % ROW, k = threadIdx.x / ROW;
#pragma unroll
    for (int i = 0; i < TURNS; i++) to[i] = Across<S::BN, S::WN>::position(k + i * APART, threadIdx.x % ROW);
    origins = first + k;
    base = (const char *)x, mask = 1 << 31, scale = 16;
    if (chunk < count) {
      const Tap tap = taps[chunk];
      base = (const char *)(x + tap.x), mask = tap.y;
    } else if (ones && chunk == count) {
      base = (const char *)&ONE, mask = 1 << 30, scale = 0;
    }
    base = hoisted(base);
    fetch();
  }
  __device__ __forceinline__ void fetch() {
#pragma unroll
    for (int i = 0; i < COPIES; i++) next[i] = origins[i * APART];
    origins += STEP;
  }
  __device__ __forceinline__ void copy(char *tile) {
#pragma unroll
    for (int i = 0; i < COPIES; i++)
      copy_async<16>(tile + to[i % TURNS] + i / TURNS * TURNS * APART * S::BN * (int)sizeof(Element),
                     scaled(base, next[i].x, scale), !(next[i].y & mask));
    fetch();
  }
};

template <class S>
__device__ __forceinline__ void gather_weights(const int columns, const int rows, const int groups, const Shares split,
                                               const int windows, const Tap *taps, const Source *sources,
                                               const int chunks, const Origin *origins, const uint4 *x,
                                               const int in_group, const uint4 *dy, const int out_row,
                                               const int out_group, const int outputs, const int channels,
                                               const int elements, float *dw, float *db) {
  char *memory = (char *)tensor_memory;
  const Cell at(columns, rows, groups);
  const Part part((windows + STEP - 1) / STEP, at.share, split.shares);
  const int begin = part.begin * STEP;
  const int row0 = at.row * S::BM, column0 = at.column * S::BN;
  Sums<S, Across<S::BM, S::WM>, Across<S::BN, S::WN>> sums;
  {
    Gradients<S> gradients(dy + (long long)begin * out_row + at.group * out_group + row0 / CHUNK, out_row,
                           outputs - row0, windows - begin);
    Samples<S> samples(x + (long long)at.group * in_group, origins + begin, taps, column0, chunks, db != 0);
    multiply(sums, gradients, samples, part.count, memory);
  }
  if (!add_shares(sums, split, at.tile, at.share)) return;
  sums.each([&](int i, int j, int e, float &sum) {
    const int row = row0 + sums.row(i, e), column = column0 + sums.column(j, e), chunk = column / CHUNK;
    if (row >= outputs) return;
    const int output = at.group * outputs + row;
    if (chunk < chunks) {
      const Source source = __ldg(sources + chunk);
      const int channel = source.y + column % CHUNK;
      if (channel < channels) dw[((long long)output * channels + channel) * elements + source.x] += sum;
    } else if (db && column == chunks * CHUNK) {
      db[output] += sum;
    }
  });
}
#endif  // TENSOR_CORES

#ifdef TENSOR_CORES
#define CORRELATE(...)                                                                                               \
  correlate<CORRELATION(__VA_ARGS__)>(columns, rows, groups, {shares, span, partial, tickets}, phases,                     \
                                (const Phase *)phase, (const Tap *)taps, (const Origin *)origins, (const uint4 *)x,  \
                                in_group, (const uint4 *)w, padded, steps, out_group,                                \
                                {(uint4 *)y, (const int *)outs, windows, out_row, bias, relu, slope,                 \
                                 (float2 *)moments, parts, channels})
#define GATHER_WEIGHTS(...)                                                                                         \
  gather_weights<Shape<__VA_ARGS__>>(columns, rows, groups, {shares, span, partial, tickets}, windows,              \
                                     (const Tap *)taps, (const Source *)sources, chunks, (const Origin *)origins,   \
                                     (const uint4 *)x, in_group, (const uint4 *)dy, out_row, out_group, outputs,    \
                                     channels, elements, dw, db)
#else
#define CORRELATE(...)
#define GATHER_WEIGHTS(...)
#endif

// Blocks: columns (tiles of channels) x rows (tiles of windows) x groups x shares.
__global__ void __launch_bounds__(128, 2)
    correlate_128x128(const int columns, const int rows, const int groups, const int phases, const int windows,
                  const int in_group, const int padded, const int steps, const int out_group, const int out_row,
                  const int channels, const void *phase, const void *taps, const void *origins, const void *outs,
                  const int shares, const int span, void *partial, void *tickets, const void *x, const void *w,
                  const float *bias, const bool relu, const float slope, void *moments, const int parts, void *y) {
  CORRELATE(128, 64, 64);
}

__global__ void __launch_bounds__(128, 3)
    correlate_64x128(const int columns, const int rows, const int groups, const int phases, const int windows,
                 const int in_group, const int padded, const int steps, const int out_group, const int out_row,
                 const int channels, const void *phase, const void *taps, const void *origins, const void *outs,
                 const int shares, const int span, void *partial, void *tickets, const void *x, const void *w,
                 const float *bias, const bool relu, const float slope, void *moments, const int parts, void *y) {
  CORRELATE(64, 32, 64);
}

__global__ void __launch_bounds__(128, 3)
    correlate_32x128(const int columns, const int rows, const int groups, const int phases, const int windows,
                 const int in_group, const int padded, const int steps, const int out_group, const int out_row,
                 const int channels, const void *phase, const void *taps, const void *origins, const void *outs,
                 const int shares, const int span, void *partial, void *tickets, const void *x, const void *w,
                 const float *bias, const bool relu, const float slope, void *moments, const int parts, void *y) {
  CORRELATE(32, 32, 32);
}

// Blocks: columns (tiles of taps and, with a db, a column of ones) x rows (tiles of channels of dy) x groups x shares.
__global__ void __launch_bounds__(128, 2)
    weights_128x128(const int columns, const int rows, const int groups, const int windows, const int chunks,
                const int in_group, const int out_row, const int out_group, const int outputs, const int channels,
                const int elements, const void *taps, const void *sources, const void *origins, const int shares,
                const int span, void *partial, void *tickets, const void *x, const void *dy, float *dw, float *db) {
  GATHER_WEIGHTS(128, 128, 64, 64);
}

__global__ void __launch_bounds__(128, 3)
    weights_64x128(const int columns, const int rows, const int groups, const int windows, const int chunks,
               const int in_group, const int out_row, const int out_group, const int outputs, const int channels,
               const int elements, const void *taps, const void *sources, const void *origins, const int shares,
               const int span, void *partial, void *tickets, const void *x, const void *dy, float *dw, float *db) {
  GATHER_WEIGHTS(64, 128, 32, 64);
}

__global__ void __launch_bounds__(128, 2)
    weights_32x256(const int columns, const int rows, const int groups, const int windows, const int chunks,
               const int in_group, const int out_row, const int out_group, const int outputs, const int channels,
               const int elements, const void *taps, const void *sources, const void *origins, const int shares,
               const int span, void *partial, void *tickets, const void *x, const void *dy, float *dw, float *db) {
  GATHER_WEIGHTS(32, 256, 32, 64);
}

// ---- packed weights ----

// Chunk i of the weights as `correlate` reads them, (groups, steps, padded rows, 8 chunks): row n is an output and k runs
// over taps and channels; or, for the gradient of the data, row n is a channel and k runs over taps and outputs.
// n: chunks of both, the first `forward` of them for the forward pass; outputs and channels: of a group.
__global__ void pack(const int n, const int forward, const int outputs, const int channels, const int elements,
                     const int steps, const int padded, const void *sources, const int data_steps,
                     const int data_padded, const void *data_sources, const float *w, void *packed) {
#ifdef TENSOR_CORES
  GRID_STRIDE(i, n) {
    const bool data = i >= forward;
    const int at = data ? i - forward : i, rows = data ? data_padded : padded, each = data ? data_steps : steps;
    const int row = at / 8 % rows, step = at / 8 / rows;
    const Source source = ((const Source *)(data ? data_sources : sources))[step % each * 8 + at % 8];
    const float *group = w + (long long)(step / each) * outputs * channels * elements + source.x;
    float values[CHUNK];
#pragma unroll
    for (int e = 0; e < CHUNK; e++) {
      const int k = source.y + e, output = data ? k : row, channel = data ? row : k;
      const bool exists = source.x >= 0 && output < outputs && channel < channels;
      values[e] = exists ? group[((long long)output * channels + channel) * elements] : 0.0f;
    }
    uint4 chunk;
#ifdef BF16
    chunk.x = pair_bf16(values[0], values[1]), chunk.y = pair_bf16(values[2], values[3]);
    chunk.z = pair_bf16(values[4], values[5]), chunk.w = pair_bf16(values[6], values[7]);
#else
    chunk.x = rounded(__float_as_uint(values[0])), chunk.y = rounded(__float_as_uint(values[1]));
    chunk.z = rounded(__float_as_uint(values[2])), chunk.w = rounded(__float_as_uint(values[3]));
#endif
    ((uint4 *)packed)[i] = chunk;
  }
#endif
}
