// The gradients of a convolution's weights and bias: for each weight a sum over all windows of the batch, a product of
// dy (channels x windows) and of the windows' elements (windows x taps) that is gathered from the image.
//
// minicaffe.cuda.convolution_weights makes the tables, of two numbers each: where KERNEL_WIDTH taps side by side are, from a
// window's first element, and which bits of a window's mask they need; and for each row and each column of windows where its
// first element is, and the bits of those taps that are inside the image. A copy takes a test of bits, and a share of an
// addition. Two steps of 16 windows hide the copies' latency: one of them is at least 1500 instructions of each warp.
#include "divisor.cuh"
#include "gemm.cuh"

// Each variant is compiled when it is needed.
#ifndef WIDE_COPIES
#define WIDE_COPIES true  // windows of a sample are a multiple of 16 bytes: dy is copied by as many
#endif
#ifndef PLANES
#define PLANES false  // windows are single elements, one for each of the image: x is read like dy
#endif
#ifndef KERNEL_WIDTH
#define KERNEL_WIDTH 3  // taps that are contiguous in memory, and in the order of the weights
#endif

#if DTYPE_BITS == 32
typedef Shape<128, 96, 16, 3, 8, 12> Rows128;
typedef Shape<64, 96, 16, 3, 8, 12> Rows64;
typedef Shape<32, 96, 16, 2, 8, 12> Rows32;
typedef Shape<16, 192, 16, 2, 8, 12, 2> Rows16;
#else
typedef Shape<128, 96, 8, 2, 4, 12> Rows128;
typedef Shape<64, 96, 8, 2, 4, 12> Rows64;
typedef Shape<32, 96, 8, 2, 4, 12> Rows32;
typedef Shape<16, 192, 8, 2, 4, 12> Rows16;
#endif

struct Entry {  // of the tables
  int offset, bits;
};

struct Images {  // the channels of a group, with their windows
  const Dtype *data;
  int sample, group;         // elements
  Divisor places, width;     // windows of a sample, and of a row
  const Entry *rows, *columns;  // rows of all planes

  __device__ Images at(int which) const {  // those of another group
    Images other = *this;
    other.data += (long long)which * group;
    return other;
  }
};

// The place of a thread in a step: LANES of a warp lie along k, of which each copies N elements. Where 16 lanes copy single
// elements, the upper 8 exchange rows with their neighbours, so that a warp's writes reach 32 banks.
template <class S, int N>
struct Lane {
  static const int LANES = N > 1 ? S::BK / N : S::THREADS == 32 ? S::BK : 8, STEP = S::THREADS * N / S::BK;
  int row, k, swap;
  __device__ __forceinline__ Lane() {
    const int parts = S::BK / N / LANES, warp = threadIdx.x / 32;
    row = threadIdx.x % 32 / LANES + warp / parts * (32 / LANES);
    k = (threadIdx.x % LANES + warp % parts * LANES) * N;
    swap = N == 1 && LANES > 8 ? k / 8 * STEP : 0;
  }
  __device__ __forceinline__ int away(int r, int rows) const {  // a thread's r-th row is row + r + away(r)
    return r / STEP % 2 ? -swap : r + STEP < rows ? swap : 0;
  }
};

// Element (i, k): place k % places of channel i of sample k / places.
template <class S, int R>
struct Planes {
  typedef Panel<R, S::BK, WIDE_COPIES, 4> To;
  static const int N = WIDE_COPIES ? VECTOR : 1, STEP = Lane<S, N>::STEP;
  const Images images;
  const Lane<S, N> lane;
  const Dtype *from;
  int rows, left, place;

  __device__ Planes(const Images &images, int row0, int rows, int begin, int end)
      : images(images), rows(rows - row0 - lane.row), left(end - begin - lane.k) {
    const int n = images.places.quotient(begin + lane.k);
    place = begin + lane.k - n * images.places.by;
    from = images.data + (long long)n * images.sample + (long long)(row0 + lane.row) * images.places.by + place;
  }

  __device__ __forceinline__ void next(Dtype *to) {
#pragma unroll
    for (int r = 0; r < R; r += STEP) {
      const int i = r + lane.away(r, R);
      if (R % STEP == 0 || lane.row + i < R)
        copy_async<N * sizeof(Dtype)>(to + To::at(lane.row, lane.k) + To::at(r, 0) + To::at(lane.away(r, R), 0),
                                      from + i * (long long)images.places.by, i < rows && left > 0);
    }
    place += S::BK, left -= S::BK;
    const int n = images.places.quotient(place);  // samples further
    place -= n * images.places.by;
    from += S::BK + (long long)n * (images.sample - images.places.by);
  }
};

// Element (j, k): tap j of window k. A thread copies taps of one window, so that lanes read neighbours in memory.
template <class S, int R>
struct Gathered {
  typedef Panel<R, S::BK, false, 4> To;
  static const int STEP = Lane<S, 1>::STEP, ROWS = R / KERNEL_WIDTH;
  const Images images;
  const Entry *taps;  // of the tile
  const Lane<S, 1> lane;
  int at, left, bits;
  const Dtype *from;

  __device__ Gathered(const Images &images, const Entry *taps, int begin, int end)
      : images(images), taps(taps), at(begin + lane.k), left(end - at) {
    find();
  }

  __device__ __forceinline__ void find() {
    const int n = images.places.quotient(at), place = at - n * images.places.by, row = images.width.quotient(place);
    const Entry y = images.rows[row], x = images.columns[place - row * images.width.by];
    from = images.data + (long long)n * images.sample + (y.offset + x.offset);
    bits = left > 0 ? y.bits | x.bits : 0;
    keep_pointer(from);
  }

  __device__ __forceinline__ void next(Dtype *to) {
#pragma unroll
    for (int c = 0; c < (ROWS + STEP - 1) / STEP; c++) {
      const int r = c * STEP, i = lane.row + lane.away(r, ROWS);
      if (ROWS % STEP == 0 || i + r < ROWS) {
        const Entry row = taps[i + r];
        const Dtype *source = from + row.offset;
        keep_pointer(source);
#pragma unroll
        for (int j = 0; j < KERNEL_WIDTH; j++)
          copy_async<sizeof(Dtype)>(to + To::at(i * KERNEL_WIDTH, lane.k) + r * KERNEL_WIDTH + j, source + j,
                                    !((row.bits | (KERNEL_WIDTH > 1 ? 1 << j : 0)) & ~bits));
      }
    }
    at += S::BK, left -= S::BK;
    find();
  }
};

// Tiles of taps x tiles of channels x groups; the tiles of the first taps also sum dy, for the bias.
template <class S>
struct Gradient {
  typedef Planes<S, S::BM> A;
#if PLANES
  typedef Planes<S, S::BN> B;
#else
  typedef Gathered<S, S::BN> B;
#endif
  typedef Sums<S, true> Result;

  Dtype *ring;
  Entry *tile_taps;
  int channels, taps, windows;  // of a group; of the batch
  Images dy, x;
  const Entry *all_taps;
  Dtype *dw, *db;
  bool wide;

  static const int WIDTH = PLANES ? S::BN : S::BN / KERNEL_WIDTH * KERNEL_WIDTH;  // taps of a tile

  struct Place {
    int group, channel, tap;
  };
  __device__ Place place(int tile) const {
    const int across = tiles(taps, WIDTH), down = tiles(channels, S::BM);
    return {tile / across / down, tile / across % down * S::BM, tile % across * WIDTH};
  }

  __device__ void sum(int tile, int step, int steps, Result &sums) const {
    const Place p = place(tile);
    const int begin = step * S::BK, end = min(windows, begin + steps * S::BK);
    A rows(dy.at(p.group), p.channel, channels, begin, end);
#if PLANES
    B columns(x.at(p.group), p.tap, taps, begin, end);
#else
#pragma unroll
    for (int i = 0; i < WIDTH / KERNEL_WIDTH; i += S::THREADS) {
      const int j = i + threadIdx.x, row = p.tap / KERNEL_WIDTH + j;
      const Entry entry = row * KERNEL_WIDTH < taps ? all_taps[row] : Entry{0, -1};  // no window has all bits
      if (j < WIDTH / KERNEL_WIDTH) tile_taps[j] = entry;
    }
    __syncthreads();
    B columns(x.at(p.group), tile_taps, begin, end);
#endif
    multiply<S>(ring, steps, rows, columns, sums, db && !p.tap);
  }

  __device__ void store(int tile, Result &sums) const {
    const Place p = place(tile);
    const int first = p.group * channels + p.channel;
    sums.each([&](int i, int j, auto group) {
      const int left = min(WIDTH, taps - p.tap) - j;
      if (p.channel + i >= channels || left <= 0) return;
      Dtype *to = dw + (long long)(first + i) * taps + p.tap + j;
      const auto old = load_group<Result::WIDTH>(to, left, wide);
#pragma unroll
      for (int e = 0; e < Result::WIDTH; e++) group.e[e] += old.e[e];
      store_group(to, left, wide, group);
    });
    if (db && !p.tap)
      sums.each_row([&](int i, Dtype sum) {
        if (p.channel + i < channels) db[first + i] += sum;
      });
  }
};

template <class S>
__device__ __forceinline__ void gradient(
    const int channels, const int taps, const int windows, const Dtype *dy, const int dy_sample, const int dy_group,
    const Dtype *x, const int x_sample, const int x_group, const int places, const unsigned places_factor,
    const unsigned places_shift, const int width, const unsigned width_factor, const unsigned width_shift,
    const void *tap_table, const void *row_table, const void *column_table, Dtype *dw, Dtype *db,
    const bool wide, const int count, const int share, Dtype *parts, unsigned *tickets) {
  typedef Gradient<S> G;
  __shared__ __align__(16) Dtype ring[Ring<S, typename G::A, typename G::B>::SIZE];
  __shared__ Entry tile_taps[S::BN / KERNEL_WIDTH];
  const Divisor of_sample = {places, places_factor, places_shift}, of_row = {width, width_factor, width_shift};
  const Entry *rows = (const Entry *)row_table, *columns = (const Entry *)column_table;
  const Images outputs = {dy, dy_sample, dy_group, of_sample, of_row, rows, columns};
  const Images inputs = {x, x_sample, x_group, of_sample, of_row, rows, columns};
  const G product = {ring, tile_taps, channels, taps, windows, outputs, inputs, (const Entry *)tap_table, dw, db, wide};
  const Split split = {tiles(windows, S::BK), share, parts, tickets};
  typename G::Result sums;
  even_split<S>(split, count, sums, product);
}

__global__ void __launch_bounds__(Rows128::THREADS, Rows128::BLOCKS)
    weights_128(const int channels, const int taps, const int windows, const Dtype *dy, const int dy_sample, const int dy_group,
            const Dtype *x, const int x_sample, const int x_group, const int places, const unsigned places_factor,
            const unsigned places_shift, const int width, const unsigned width_factor, const unsigned width_shift,
            const void *tap_table, const void *row_table, const void *column_table, Dtype *dw, Dtype *db,
            const bool wide, const int count, const int share, Dtype *parts, unsigned *tickets) {
  gradient<Rows128>(channels, taps, windows, dy, dy_sample, dy_group, x, x_sample, x_group, places, places_factor,
                   places_shift, width, width_factor, width_shift, tap_table, row_table, column_table, dw, db, wide,
                   count, share, parts, tickets);
}

__global__ void __launch_bounds__(Rows64::THREADS, Rows64::BLOCKS)
    weights_64(const int channels, const int taps, const int windows, const Dtype *dy, const int dy_sample, const int dy_group,
            const Dtype *x, const int x_sample, const int x_group, const int places, const unsigned places_factor,
            const unsigned places_shift, const int width, const unsigned width_factor, const unsigned width_shift,
            const void *tap_table, const void *row_table, const void *column_table, Dtype *dw, Dtype *db,
            const bool wide, const int count, const int share, Dtype *parts, unsigned *tickets) {
  gradient<Rows64>(channels, taps, windows, dy, dy_sample, dy_group, x, x_sample, x_group, places, places_factor,
                   places_shift, width, width_factor, width_shift, tap_table, row_table, column_table, dw, db, wide,
                   count, share, parts, tickets);
}

__global__ void __launch_bounds__(Rows32::THREADS, Rows32::BLOCKS)
    weights_32(const int channels, const int taps, const int windows, const Dtype *dy, const int dy_sample, const int dy_group,
            const Dtype *x, const int x_sample, const int x_group, const int places, const unsigned places_factor,
            const unsigned places_shift, const int width, const unsigned width_factor, const unsigned width_shift,
            const void *tap_table, const void *row_table, const void *column_table, Dtype *dw, Dtype *db,
            const bool wide, const int count, const int share, Dtype *parts, unsigned *tickets) {
  gradient<Rows32>(channels, taps, windows, dy, dy_sample, dy_group, x, x_sample, x_group, places, places_factor,
                   places_shift, width, width_factor, width_shift, tap_table, row_table, column_table, dw, db, wide,
                   count, share, parts, tickets);
}

__global__ void __launch_bounds__(Rows16::THREADS, Rows16::BLOCKS)
    weights_16(const int channels, const int taps, const int windows, const Dtype *dy, const int dy_sample, const int dy_group,
            const Dtype *x, const int x_sample, const int x_group, const int places, const unsigned places_factor,
            const unsigned places_shift, const int width, const unsigned width_factor, const unsigned width_shift,
            const void *tap_table, const void *row_table, const void *column_table, Dtype *dw, Dtype *db,
            const bool wide, const int count, const int share, Dtype *parts, unsigned *tickets) {
  gradient<Rows16>(channels, taps, windows, dy, dy_sample, dy_group, x, x_sample, x_group, places, places_factor,
                   places_shift, width, width_factor, width_shift, tap_table, row_table, column_table, dw, db, wide,
                   count, share, parts, tickets);
}

struct Range {  // of a tap: where it is from a window's first element, and of which windows it is inside the image
  int offset, first_z, last_z, first_y, last_y, first_x, last_x, unused;
};

// For few channels in a group (depthwise: one), and for windows with more rows and columns than there are bits: a block
// sums over all windows for one weight, in the order of the weights; then for one bias each.
__global__ void weights_each(const int channels, const int taps, const int windows, const Dtype *dy, const int dy_sample,
                             const int dy_group, const Dtype *x, const int x_sample, const int x_group, const int places,
                             const unsigned places_factor, const unsigned places_shift, const int width,
                             const unsigned width_factor, const unsigned width_shift, const int height,
                             const unsigned height_factor, const unsigned height_shift, const int weights,
                             const void *ranges, const void *row_table, const void *column_table, Dtype *dw, Dtype *db) {
  const Divisor of_sample = {places, places_factor, places_shift}, of_row = {width, width_factor, width_shift};
  const Divisor of_plane = {height, height_factor, height_shift};
  const bool bias = blockIdx.x >= (unsigned)weights;
  const int channel = bias ? blockIdx.x - weights : blockIdx.x / taps, group = channel / channels;
  const Range tap = ((const Range *)ranges)[bias ? 0 : blockIdx.x % taps];
  dy += (long long)group * dy_group + (long long)(channel - group * channels) * places;
  x += (long long)group * x_group;
  Dtype sum = 0;
  BLOCK_STRIDE(k, windows) {
    const int n = of_sample.quotient(k), place = k - n * places;
    const Dtype d = dy[(long long)n * dy_sample + place];
    const int row = of_row.quotient(place), column = place - row * width, z = of_plane.quotient(row), y = row - z * height;
    const bool inside = z >= tap.first_z && z <= tap.last_z && y >= tap.first_y && y <= tap.last_y &&
                        column >= tap.first_x && column <= tap.last_x;
    if (bias)
      sum += d;
    else if (inside)
      sum += d * x[(long long)n * x_sample + (((const Entry *)row_table)[row].offset +
                                              ((const Entry *)column_table)[column].offset + tap.offset)];
  }
  sum = block_sum(sum);
  Dtype *to = bias ? db + channel : dw + blockIdx.x;
  if (threadIdx.x == 0) *to += sum;
}

// The gradient of a bias by itself: `slices` blocks for each channel sum parts of dy, and the last one adds them up.
__global__ void bias_gradient(const int windows, const int slices, const int share, const int places,
                              const unsigned places_factor, const unsigned places_shift, const int sample, const Dtype *dy,
                              Dtype *parts, unsigned *tickets, Dtype *db) {
  const Divisor of_sample = {places, places_factor, places_shift};
  const int channel = blockIdx.x / slices, begin = blockIdx.x % slices * share;
  Dtype sum = 0;
  BLOCK_STRIDE(i, min(share, windows - begin)) {
    const int k = begin + i, n = of_sample.quotient(k);
    sum += dy[(long long)n * sample + (long long)channel * places + (k - n * places)];
  }
  sum = block_sum(sum);
  if (slices > 1) {
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
    if (!last_block(tickets + channel, slices)) return;
    sum = 0;
    BLOCK_STRIDE(i, slices) sum += parts[channel * slices + i];
    sum = block_sum(sum);
  }
  if (threadIdx.x == 0) db[channel] += sum;
}
