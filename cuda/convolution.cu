// Convolution and the gradient of its data as products of matrices that are never stored: a tile of weights times a tile of
// windows, whose elements are gathered from the image by asynchronous copies. minicaffe.cuda.convolution describes the
// method, minicaffe.cuda.windows makes the tables.
#include "gemm.cuh"
#include "windows.cuh"

// ---- operands ----

// A value of which the compiler does not know how it was made, so that it adds to it, in one instruction, instead of making
// each sum from the beginning.
__device__ __forceinline__ const Dtype *opaque(const Dtype *value) {
#ifndef __CUDA_EMU__
  asm volatile("" : "+l"(value));
#endif
  return value;
}
__device__ __forceinline__ int opaque(int value) {
#ifndef __CUDA_EMU__
  asm volatile("" : "+r"(value));
#endif
  return value;
}

// The weights: rows are channels of the result. Eight lanes lie along k, where weights are neighbours (or nearly), four
// along the rows; rows of R + PAD elements spread these 32 over the banks.
template <class S, bool BY_CHANNELS>
struct Filters {
  static const int PAD = VECTOR;
  struct To {
    static const bool ALONG_K = false;
    static const int SIZE = S::BK * (S::BM + PAD);
    static __device__ __forceinline__ int at(int row, int k) { return k * (S::BM + PAD) + row; }
  };
  static const int STRIDE = S::THREADS / 8, ROWS = S::BM / STRIDE;
  static_assert(ROWS * STRIDE == S::BM && S::BK % 8 == 0, "threads share the weights evenly");
  const Dtype *rows[ROWS];
  const int *places;  // of this thread's first k
  const Step *steps;
  int at, channel;

  __device__ __forceinline__ Filters(const Plan &plan, const Phase &phase, const Dtype *weights, int row0, int step)
      : places(plan.weights() + phase.taps + step * S::BK + threadIdx.x % 8), steps(plan.steps() + phase.steps + step),
        channel(plan.weights_channel) {
    const int row = threadIdx.x / 8, k = threadIdx.x % 8;
    at = opaque(To::at(row, k));
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      rows[i] = weights + (long long)min(row0 + row + i * STRIDE, plan.out_channels - 1) * plan.weights_row;
      rows[i] = opaque(BY_CHANNELS ? rows[i] + k * channel : rows[i]);
    }
  }
  __device__ __forceinline__ void next(Dtype *to) {
    const int first = BY_CHANNELS ? steps->weight : 0;
#pragma unroll
    for (int c = 0; c < S::BK; c += 8) {
      const int place = BY_CHANNELS ? opaque(first + c * channel) : places[c];
      const bool valid = (BY_CHANNELS ? first : place) != -1;
#pragma unroll
      for (int i = 0; i < ROWS; i++)
        copy_async<sizeof(Dtype)>(to + at + To::at(i * STRIDE, c), rows[i] + place, valid);
    }
    places += S::BK, steps++;
  }
};

// The elements of windows, by a table.
template <class S>
struct Gathered {
  static const bool BY_CHANNELS = false;
  typedef Panel<S::BN, S::BK, false> To;
  static const int WIDTH = S::BN < S::THREADS ? S::BN : S::THREADS;  // threads side by side
  static const int COLUMNS = S::BN / WIDTH, DEPTH = S::BK * WIDTH / S::THREADS;
  Place places[COLUMNS];
  const Tap *taps;
  int at;

  __device__ __forceinline__ Gathered(const Plan &plan, const Phase &phase, const Dtype *image, int first, int step) {
    const int column = threadIdx.x % WIDTH, k = threadIdx.x / WIDTH * DEPTH;
    at = opaque(To::at(column, k));
    taps = plan.taps() + phase.taps + step * S::BK + k;
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
      places[j] = phase.place(first + column + j * WIDTH, image, plan.in_sample, plan.outside());
      places[j].data = opaque(places[j].data);
    }
  }
  __device__ __forceinline__ void next(Dtype *to) {
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
      const Tap tap = taps[d];
#pragma unroll
      for (int j = 0; j < COLUMNS; j++)
        copy_async<sizeof(Dtype)>(to + at + To::at(j * WIDTH, d), places[j].data + tap.offset,
                                  tap.is_in(places[j]));
    }
    taps += S::BK;
  }
};

// The same, with one element of the windows in BK channels in each step: their number is a multiple of BK. The bits of an
// element are compared once for all channels.
template <class S>
struct ByChannels {
  static const bool BY_CHANNELS = true;
  typedef Panel<S::BN, S::BK, false> To;
  static const int WIDTH = S::BN < S::THREADS ? S::BN : S::THREADS;
  static const int COLUMNS = S::BN / WIDTH, DEPTH = S::BK * WIDTH / S::THREADS;
  Place places[COLUMNS];
  const Step *steps;
  int at, channel;

  __device__ __forceinline__ ByChannels(const Plan &plan, const Phase &phase, const Dtype *image, int first, int step)
      : steps(plan.steps() + phase.steps + step), channel(plan.in_channel) {
    const int column = threadIdx.x % WIDTH, k = threadIdx.x / WIDTH * DEPTH;
    at = opaque(To::at(column, k));
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
      places[j] = phase.place(first + column + j * WIDTH, image, plan.in_sample, plan.outside());
      places[j].data = opaque(places[j].data + (long long)k * channel);
    }
  }
  __device__ __forceinline__ void next(Dtype *to) {
    const Tap tap = steps->tap;
    int offset = tap.offset;
#pragma unroll
    for (int d = 0; d < DEPTH; d++, offset = opaque(offset + channel)) {
#pragma unroll
      for (int j = 0; j < COLUMNS; j++)
        copy_async<sizeof(Dtype)>(to + at + To::at(j * WIDTH, d), places[j].data + offset,
                                  tap.is_in(places[j]));
    }
    steps++;
  }
};

// Windows of one place, which is where their result goes, and a number of them in a sample that 16 bytes divide.
template <class S>
struct Pointwise {
  static const bool BY_CHANNELS = false;
  typedef Panel<S::BN, S::BK, false> To;
  static const int LINE = S::BN / VECTOR < S::THREADS ? S::BN / VECTOR : S::THREADS, STEP = S::THREADS / LINE;
  static const int COLUMNS = S::BN / VECTOR / LINE;
  static_assert(S::BK % STEP == 0, "threads share the windows evenly");
  const Dtype *data[COLUMNS];
  int left[COLUMNS];  // channels
  int at, channel;

  __device__ __forceinline__ Pointwise(const Plan &plan, const Phase &phase, const Dtype *image, int first, int step)
      : channel(plan.in_channel) {
    const int column = threadIdx.x % LINE * VECTOR, k = threadIdx.x / LINE;
    at = opaque(To::at(column, k));
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
      const int window = first + column + j * LINE * VECTOR, c = k + step * S::BK, n = phase.sample.quotient(window);
      const int place = window - n * phase.sample.by;
      data[j] = opaque(image + (long long)n * plan.in_sample + (long long)c * channel + place);
      left[j] = window < phase.windows ? phase.depth - c : 0;
    }
  }
  __device__ __forceinline__ void next(Dtype *to) {
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
#pragma unroll
      for (int c = 0; c < S::BK; c += STEP)
        copy_async<16>(to + at + To::at(j * LINE * VECTOR, c), data[j] + (long long)c * channel, c < left[j]);
      data[j] += (long long)S::BK * channel, left[j] -= S::BK;
    }
  }
};

// ---- results ----

// What becomes of a sum. All parts are optional (0).
struct Tail {
  const Dtype *bias;        // of each channel: added
  bool relu;                // then rectified
  Dtype slope;
  const Dtype *mask;        // an array like the result: where it is not above 0, the sum is multiplied by mask_slope
  Dtype mask_slope;
  Dtype *moments;           // of each channel and tile of windows: the mean of the results, and their squared deviations
};

// A tile's results on their way: f(row, column, values) of `Sums::each`.
template <class T>
struct Results {
  static const int N = T::WIDTH;
  const Tail &tail;
  Dtype *y;
  int channels, channel, first_column;  // that the tile has; elements in one; the thread's first column in the tile
  bool wide;                            // adjacent windows have adjacent results, at addresses for N of them
  long long at[T::COLUMNS];             // where the results of the thread's windows are in channel 0; -1 for no window

  __device__ __forceinline__ Results(const Plan &plan, const Phase &phase, const Tail &tail, int channels, const T &sums,
                                     int first, bool wide, Dtype *y)
      : tail(tail), y(y), channels(channels), channel(plan.out_channel), first_column(sums.column), wide(wide) {
#pragma unroll
    for (int c = 0; c < T::COLUMNS; c++) {
      if (wide && c % N) continue;
      const int window = first + sums.column + c / N * T::SPREAD_N + c % N;
      int n;
      const int place = phase.result(window, n);
      at[c] = window < phase.windows ? (long long)n * plan.out_sample + place : -1;
    }
  }

  __device__ __forceinline__ void operator()(int row, int column, Group<N> &sums) const {
    if (row >= channels) return;
    const Dtype bias = tail.bias ? tail.bias[row] : Dtype(0);
#pragma unroll
    for (int e = 0; e < N; e++) {
      const Dtype value = tail.bias ? sums.e[e] + bias : sums.e[e];
      sums.e[e] = tail.relu ? rectified(value, tail.slope) : value;
    }
    const long long *places = at + (column - first_column) / T::SPREAD_N * N, first = (long long)row * channel;
    if (wide) {
      if (places[0] < 0) return;
      if (tail.mask) {
        const Group<N> mask = *(const Group<N> *)(tail.mask + first + places[0]);
#pragma unroll
        for (int e = 0; e < N; e++) sums.e[e] *= mask.e[e] > 0 ? Dtype(1) : tail.mask_slope;
      }
      *(Group<N> *)(y + first + places[0]) = sums;
    } else {
#pragma unroll
      for (int e = 0; e < N; e++) {
        if (places[e] < 0) break;
        if (tail.mask) sums.e[e] *= tail.mask[first + places[e]] > 0 ? Dtype(1) : tail.mask_slope;
        y[first + places[e]] = sums.e[e];
      }
    }
  }
};

// The mean of each row's first `columns` sums, and the sum of their squared deviations from it: two passes, in fixed order.
// To the threads below BM: done(row, mean, deviations). `shared` has space for (warps in a row + 1) x BM numbers.
template <class S, class F>
__device__ __forceinline__ void row_moments(Sums<S> &sums, int columns, Dtype *shared, const F &done) {
  const int ACROSS = S::BN / S::WARP_N, warp = threadIdx.x / 32 % ACROSS, lane = threadIdx.x % Sums<S>::ROW_LANES;
  Dtype *means = shared + ACROSS * S::BM;
  for (int pass = 0; pass < 2; pass++) {
    __syncthreads();
    STRIDE(i, (int)threadIdx.x, ACROSS * S::BM, S::THREADS) shared[i] = 0;
    __syncthreads();
    sums.each([&](int row, int column, const auto &values) {
      const Dtype mean = pass ? means[row] : Dtype(0);
      Dtype sum = 0;
#pragma unroll
      for (int e = 0; e < (int)(sizeof(values) / sizeof(Dtype)); e++) {
        const Dtype d = values.e[e] - mean;
        if (column + e < columns) sum += pass ? d * d : d;
      }
#pragma unroll
      for (int d = Sums<S>::ROW_LANES / 2; d; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
      if (lane == 0) shared[warp * S::BM + row] += sum;
    });
    __syncthreads();
    STRIDE(row, (int)threadIdx.x, S::BM, S::THREADS) {
      Dtype sum = 0;
      for (int i = 0; i < ACROSS; i++) sum += shared[i * S::BM + row];
      if (pass) {
        done(row, means[row], sum);
      } else {
        means[row] = sum / columns;
      }
    }
  }
  __syncthreads();
}

// A phase's tiles: those of the same windows are neighbours.
template <class S, template <class> class Windows>
struct Tiles {
  typedef Filters<S, Windows<S>::BY_CHANNELS> A;
  typedef Windows<S> B;
  static const int SIZE = Ring<S, A, B>::SIZE;
  static_assert(SIZE >= (S::BN / S::WARP_N + 1) * S::BM, "room for the moments");
  Dtype *ring;
  const Plan &plan;
  const Phase &phase;
  const Dtype *x, *w;
  const Tail &tail;
  bool wide;
  Dtype *y;
  int rows, columns;  // of tiles

  __device__ __forceinline__ void place(int tile, int &group, int &row0, int &column) const {
    row0 = tile % rows * S::BM, tile /= rows;
    group = tile / columns, column = tile % columns;
  }
  __device__ __forceinline__ void sum(int tile, int step, int steps, Sums<S> &sums) const {
    int group, row0, column;
    place(tile, group, row0, column);
    A a(plan, phase, w + (long long)group * plan.weights_group, row0, step);
    B b(plan, phase, x + (long long)group * plan.in_group, column * S::BN, step);
    multiply(ring, steps, a, b, sums);
  }
  __device__ __forceinline__ void store(int tile, Sums<S> &sums) const {
    int group, row0, column;
    place(tile, group, row0, column);
    const int channel = group * plan.out_channels + row0, channels = plan.out_channels - row0;
    const long long first = (long long)channel * plan.out_channel;
    Tail here = tail;
    if (tail.bias) here.bias += channel;
    if (tail.mask) here.mask += first;
    sums.each(Results<Sums<S>>(plan, phase, here, channels, sums, column * S::BN, wide, y + first));
    if (tail.moments)
      row_moments(sums, min(S::BN, phase.windows - column * S::BN), ring, [&](int row, Dtype mean, Dtype deviations) {
        if (row >= channels) return;
        Dtype *moments = tail.moments + ((long long)(channel + row) * columns + column) * 2;
        moments[0] = mean, moments[1] = deviations;
      });
  }
};

template <class S, template <class> class Windows>
__device__ __forceinline__ void correlate(Dtype *ring, const int share, Dtype *parts, unsigned *tickets, const Plan &plan,
                                          const Dtype *x, const Dtype *w, const Tail &tail, const bool wide, Dtype *y) {
  Sums<S> sums;
  const int rows = tiles(plan.out_channels, S::BM), lane = threadIdx.x % 32;
  const long long begin = (long long)blockIdx.x * share;
  auto count = [&](const Phase &phase) { return tiles(phase.windows, S::BN) * rows * plan.groups; };
  auto steps = [&](const Phase &phase) { return max(tiles(phase.depth, S::BK), 1); };
  Split split = {0, share, parts, tickets};
  for (int p = 0; p < plan.phase_count && split.before < begin + share; p++) {
    if (p % 32 == 0 && plan.phase_count > 32) {  // 32 phases of the blocks before are passed over at once
      long long work = 0;
      if (p + lane < plan.phase_count) {
        const Phase &phase = plan.phases()[p + lane];
        work = (long long)count(phase) * steps(phase);
      }
      work = warp_sum(work);
      if (split.before + work <= begin) {
        split.before += work, p += 31;
        continue;
      }
    }
    const Phase &phase = plan.phases()[p];
    split.steps = steps(phase);
    even_split<S>(split, count(phase), sums,
                  Tiles<S, Windows>{ring, plan, phase, x, w, tail, wide, y, rows, tiles(phase.windows, S::BN)});
    split.before += (long long)count(phase) * split.steps;
  }
}

// As _TILES in minicaffe.cuda.convolution.
#if DTYPE_BITS == 32
typedef Shape<64, 128, 16, 3> Tile64;
typedef Shape<32, 128, 16, 3> Tile32;
typedef Shape<16, 256, 16, 2, 8, 8, 2> Tile16;
#else
typedef Shape<64, 64, 16, 2> Tile64;
typedef Shape<32, 128, 16, 2> Tile32;
typedef Shape<16, 128, 16, 2, 8, 8, 2> Tile16;
#endif

__global__ void __launch_bounds__(Tile64::THREADS, Tile64::BLOCKS)
    gathered_64(const int share, const bool wide, const void *plan, const Dtype *x, const Dtype *w, const Dtype *bias,
                const bool relu, const Dtype slope, const Dtype *mask, const Dtype mask_slope, Dtype *moments,
                Dtype *parts, unsigned *tickets, Dtype *y) {
  __shared__ __align__(16) Dtype ring[Tiles<Tile64, Gathered>::SIZE];
  correlate<Tile64, Gathered>(ring, share, parts, tickets, *(const Plan *)plan, x, w,
                              {bias, relu, slope, mask, mask_slope, moments}, wide, y);
}

__global__ void __launch_bounds__(Tile32::THREADS, Tile32::BLOCKS)
    gathered_32(const int share, const bool wide, const void *plan, const Dtype *x, const Dtype *w, const Dtype *bias,
                const bool relu, const Dtype slope, const Dtype *mask, const Dtype mask_slope, Dtype *moments,
                Dtype *parts, unsigned *tickets, Dtype *y) {
  __shared__ __align__(16) Dtype ring[Tiles<Tile32, Gathered>::SIZE];
  correlate<Tile32, Gathered>(ring, share, parts, tickets, *(const Plan *)plan, x, w,
                              {bias, relu, slope, mask, mask_slope, moments}, wide, y);
}

__global__ void __launch_bounds__(Tile16::THREADS, Tile16::BLOCKS)
    gathered_16(const int share, const bool wide, const void *plan, const Dtype *x, const Dtype *w, const Dtype *bias,
                const bool relu, const Dtype slope, const Dtype *mask, const Dtype mask_slope, Dtype *moments,
                Dtype *parts, unsigned *tickets, Dtype *y) {
  __shared__ __align__(16) Dtype ring[Tiles<Tile16, Gathered>::SIZE];
  correlate<Tile16, Gathered>(ring, share, parts, tickets, *(const Plan *)plan, x, w,
                              {bias, relu, slope, mask, mask_slope, moments}, wide, y);
}

__global__ void __launch_bounds__(Tile64::THREADS, Tile64::BLOCKS)
    pointwise_64(const int share, const bool wide, const void *plan, const Dtype *x, const Dtype *w, const Dtype *bias,
                 const bool relu, const Dtype slope, const Dtype *mask, const Dtype mask_slope, Dtype *moments,
                 Dtype *parts, unsigned *tickets, Dtype *y) {
  __shared__ __align__(16) Dtype ring[Tiles<Tile64, Pointwise>::SIZE];
  correlate<Tile64, Pointwise>(ring, share, parts, tickets, *(const Plan *)plan, x, w,
                               {bias, relu, slope, mask, mask_slope, moments}, wide, y);
}

__global__ void __launch_bounds__(Tile32::THREADS, Tile32::BLOCKS)
    pointwise_32(const int share, const bool wide, const void *plan, const Dtype *x, const Dtype *w, const Dtype *bias,
                 const bool relu, const Dtype slope, const Dtype *mask, const Dtype mask_slope, Dtype *moments,
                 Dtype *parts, unsigned *tickets, Dtype *y) {
  __shared__ __align__(16) Dtype ring[Tiles<Tile32, Pointwise>::SIZE];
  correlate<Tile32, Pointwise>(ring, share, parts, tickets, *(const Plan *)plan, x, w,
                               {bias, relu, slope, mask, mask_slope, moments}, wide, y);
}

__global__ void __launch_bounds__(Tile16::THREADS, Tile16::BLOCKS)
    pointwise_16(const int share, const bool wide, const void *plan, const Dtype *x, const Dtype *w, const Dtype *bias,
                 const bool relu, const Dtype slope, const Dtype *mask, const Dtype mask_slope, Dtype *moments,
                 Dtype *parts, unsigned *tickets, Dtype *y) {
  __shared__ __align__(16) Dtype ring[Tiles<Tile16, Pointwise>::SIZE];
  correlate<Tile16, Pointwise>(ring, share, parts, tickets, *(const Plan *)plan, x, w,
                               {bias, relu, slope, mask, mask_slope, moments}, wide, y);
}

__global__ void __launch_bounds__(Tile16::THREADS, Tile16::BLOCKS)
    channels_16(const int share, const bool wide, const void *plan, const Dtype *x, const Dtype *w, const Dtype *bias,
                const bool relu, const Dtype slope, const Dtype *mask, const Dtype mask_slope, Dtype *moments,
                Dtype *parts, unsigned *tickets, Dtype *y) {
  __shared__ __align__(16) Dtype ring[Tiles<Tile16, ByChannels>::SIZE];
  correlate<Tile16, ByChannels>(ring, share, parts, tickets, *(const Plan *)plan, x, w,
                                {bias, relu, slope, mask, mask_slope, moments}, wide, y);
}

// For few channels in a group (depthwise: one): each thread sums for one window of one channel.
// Blocks: `across` that share the windows x channels of a group x groups x phases.
__global__ void correlate_each(const int across, const void *plan_at, const Dtype *x, const Dtype *w, const Dtype *bias,
                               const bool relu, const Dtype slope, const Dtype *mask, const Dtype mask_slope, Dtype *y) {
  const Plan &plan = *(const Plan *)plan_at;
  const int lot = blockIdx.x / across, row = lot % plan.out_channels, group = lot / plan.out_channels % plan.groups;
  const Phase phase = plan.phases()[lot / plan.out_channels / plan.groups];
  const Tap *taps = plan.taps() + phase.taps;
  const int *places = plan.weights() + phase.taps, channel = group * plan.out_channels + row;
  const Dtype *image = x + (long long)group * plan.in_group;
  const Dtype *weights = w + (long long)group * plan.weights_group + (long long)row * plan.weights_row;
  const long long first = (long long)channel * plan.out_channel;
  STRIDE(i, blockIdx.x % across * blockDim.x + threadIdx.x, phase.windows, across * blockDim.x) {
    const Place place = phase.place(i, image, plan.in_sample, plan.outside());
    Dtype sum = 0;
#pragma unroll 4
    for (int k = 0; k < phase.depth; k++) {
      const Tap tap = taps[k];
      if (tap.is_in(place)) sum += weights[places[k]] * place.data[tap.offset];
    }
    int n;
    const int result = phase.result(i, n);
    const long long at = (long long)n * plan.out_sample + first + result;
    if (bias) sum += bias[channel];
    if (relu) sum = rectified(sum, slope);
    y[at] = mask && !(mask[at] > 0) ? sum * mask_slope : sum;
  }
}

// n elements of y, in place: plus the bias of their channel, rectified.
__global__ void finish(const int n, const int channels, const int places, const Dtype *bias, const bool relu, const Dtype slope,
                       Dtype *y) {
  GRID_STRIDE(i, n) {
    const Dtype value = bias ? y[i] + bias[i / places % channels] : y[i];
    y[i] = relu ? rectified(value, slope) : value;
  }
}
