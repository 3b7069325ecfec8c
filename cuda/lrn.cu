// LRN across channels, and within a channel.
#include "packs.cuh"

// scale^-beta; for beta 3/4 by square roots, which take a fraction of the time.
__device__ __forceinline__ Dtype inverse_power(const Dtype scale, const Dtype beta) {
  if (beta != Dtype(0.75)) return pow(scale, -beta);
  const Dtype root = sqrt(scale);
  return 1 / (root * sqrt(root));
}

// One thread for each place of each sample iterates over the channels with a running sum; reads are coalesced.
__global__ void across_forward(const int n, const int channels, const int places, const int size, const Dtype rate,
                               const Dtype k, const Dtype beta, const Dtype *__restrict__ x, Dtype *__restrict__ scale,
                               Dtype *__restrict__ y) {
  const int reach = size / 2;
  GRID_STRIDE(i, n) {
    const int sample = i / places;
    const long long first = (long long)sample * channels * places + (i - sample * places);
    Dtype sum = 0;
    for (int head = 0; head < channels + reach; head++) {
      if (head < channels) {
        const Dtype value = x[first + (long long)head * places];
        sum += value * value;
      }
      if (head >= size) {
        const Dtype value = x[first + (long long)(head - size) * places];
        sum = max(sum - value * value, Dtype(0));
      }
      if (head >= reach) {
        const long long at = first + (long long)(head - reach) * places;
        const Dtype s = k + rate * sum;
        scale[at] = s;
        y[at] = x[at] * inverse_power(s, beta);
      }
    }
  }
}

// dx = own - factor x (the sum of the ratios of the neighbours), with own = dy scale^-beta and ratio = own x / scale.
// dx may be dy: a thread reads all of its dy before it writes there, and keeps the ratios.
__global__ void across_backward(const int n, const int channels, const int places, const int size, const Dtype factor,
                                const Dtype beta, const Dtype *__restrict__ x, const Dtype *dy,
                                const Dtype *__restrict__ scale, Dtype *__restrict__ ratio, Dtype *dx) {
  const int reach = size / 2;
  GRID_STRIDE(i, n) {
    const int sample = i / places;
    const long long first = (long long)sample * channels * places + (i - sample * places);
    Dtype sum = 0;
    for (int head = 0; head < channels + reach; head++) {
      if (head < channels) {
        const long long at = first + (long long)head * places;
        const Dtype own = dy[at] * inverse_power(scale[at], beta), share = own * x[at] / scale[at];
        dx[at] = own;
        ratio[at] = share;
        sum += share;
      }
      if (head >= size) sum -= ratio[first + (long long)(head - size) * places];
      if (head >= reach) {
        const long long at = first + (long long)(head - reach) * places;
        dx[at] -= factor * x[at] * sum;
      }
    }
  }
}

// ---- within a channel: a block works on a strip of the rows of blockDim.z planes; its threads are (columns, rows, planes)

// The strip of a block, and its plane.
struct Strip {
  int plane, height, width, begin, end, reach;
  __device__ Strip(int height, int width, int rows, int size)
      : plane(blockIdx.x * blockDim.z + threadIdx.z), height(height), width(width), begin(blockIdx.y * rows),
        end(min(begin + rows, height)), reach(size / 2) {}
  __device__ long long start() const { return (long long)plane * height * width; }

  // The sum of value(row, column) over the neighbours of a place.
  template <class Value>
  __device__ __forceinline__ Dtype sum(int row, int column, const Value &value) const {
    const int h_end = min(row + reach + 1, height), w_begin = max(column - reach, 0), w_end = min(column + reach + 1, width);
    Dtype sum = 0;
    for (int h = max(row - reach, 0); h < h_end; h++)
      for (int w = w_begin; w < w_end; w++) sum += value(h, w);
    return sum;
  }
};

__global__ void within_forward(const int planes, const int height, const int width, const int rows, const int size,
                               const Dtype rate, const Dtype beta, const Dtype *__restrict__ x, Dtype *__restrict__ scale,
                               Dtype *__restrict__ y) {
  const Strip strip(height, width, rows, size);
  if (strip.plane >= planes) return;
  const Dtype *picture = x + strip.start();
  for (int row = strip.begin + threadIdx.y; row < strip.end; row += blockDim.y)
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
      const auto square = [=](int h, int w) { return picture[h * width + w] * picture[h * width + w]; };
      const Dtype s = 1 + rate * strip.sum(row, column, square);
      const long long i = strip.start() + row * width + column;
      scale[i] = s;
      y[i] = x[i] * inverse_power(s, beta);
    }
}

extern __shared__ __align__(16) uint4 shared_memory[];

// As across_backward. The ratios of the strip and of the rows that it reaches are in shared memory if kept_rows, the most
// of these rows, is not 0; else they are computed at each use.
__global__ void within_backward(const int planes, const int height, const int width, const int rows, const int kept_rows,
                                const int size, const Dtype factor, const Dtype beta, const Dtype *__restrict__ x,
                                const Dtype *__restrict__ dy, const Dtype *__restrict__ scale, Dtype *__restrict__ dx) {
  const Strip strip(height, width, rows, size);
  const long long start = strip.start();
  const int top = max(strip.begin - strip.reach, 0), bottom = min(strip.end + strip.reach, height);
  Dtype *kept = (Dtype *)shared_memory + threadIdx.z * kept_rows * width;
  const auto ratio = [=](int h, int w) {
    const long long i = start + h * width + w;
    return dy[i] * inverse_power(scale[i], beta) * x[i] / scale[i];
  };
  if (kept_rows) {
    if (strip.plane < planes)
      for (int row = top + threadIdx.y; row < bottom; row += blockDim.y)
        for (int column = threadIdx.x; column < width; column += blockDim.x)
          kept[(row - top) * width + column] = ratio(row, column);
    __syncthreads();
  }
  if (strip.plane >= planes) return;
  const auto kept_ratio = [=](int h, int w) { return kept[(h - top) * width + w]; };
  for (int row = strip.begin + threadIdx.y; row < strip.end; row += blockDim.y)
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
      const Dtype sum = kept_rows ? strip.sum(row, column, kept_ratio) : strip.sum(row, column, ratio);
      const long long i = start + row * width + column;
      dx[i] = dy[i] * inverse_power(scale[i], beta) - factor * x[i] * sum;
    }
}

// ---- within a channel over 3 x 3 places, where the width is a multiple of 4: a block works on blockDim.z whole planes,
// which are in shared memory; its threads are (fours of columns, rows, planes)

struct Fours {
  int plane, height, width;
  __device__ Fours(int height, int width) : plane(blockIdx.x * blockDim.z + threadIdx.z), height(height), width(width) {}

  // Calls work(row, column, i) for the first place of each of this thread's fours, number i of the plane.
  template <class Work>
  __device__ __forceinline__ void each(const Work &work) const {
    for (int row = threadIdx.y; row < height; row += blockDim.y)
      for (int column = 4 * threadIdx.x; column < width; column += 4 * blockDim.x) work(row, column, row * width + column);
  }

  // The sums over 3 x 3 places of a plane around each of four: down the columns, then along the row.
  __device__ __forceinline__ Pack<4> sums(const Dtype *kept, int row, int column) const {
    Dtype down[6] = {};
#pragma unroll
    for (int h = -1; h <= 1; h++)
      if (row + h >= 0 && row + h < height) {
        const Dtype *line = kept + (row + h) * width + column;
        const Pack<4> own = load<4>(line);
        if (column > 0) down[0] += line[-1];
        if (column + 4 < width) down[5] += line[4];
#pragma unroll
        for (int j = 0; j < 4; j++) down[j + 1] += own.v[j];
      }
    Pack<4> sums;
#pragma unroll
    for (int j = 0; j < 4; j++) sums.v[j] = down[j] + down[j + 1] + down[j + 2];
    return sums;
  }
};

__global__ void nine_forward(const int planes, const int height, const int width, const Dtype rate, const Dtype beta,
                             const Dtype *x, Dtype *__restrict__ scale, Dtype *y) {
  const Fours fours(height, width);
  const long long start = (long long)fours.plane * height * width;
  Dtype *squares = (Dtype *)shared_memory + threadIdx.z * height * width;
  const bool mine = fours.plane < planes;
  if (mine) fours.each([=](int row, int column, int i) {
      Pack<4> values = load<4>(x + start + i);
#pragma unroll
      for (int j = 0; j < 4; j++) values.v[j] *= values.v[j];
      store<4>(squares + i, values);
    });
  __syncthreads();
  if (mine) fours.each([=](int row, int column, int i) {
      Pack<4> sums = fours.sums(squares, row, column), values = load<4>(x + start + i);
#pragma unroll
      for (int j = 0; j < 4; j++) {
        sums.v[j] = 1 + rate * sums.v[j];
        values.v[j] *= inverse_power(sums.v[j], beta);
      }
      store<4>(scale + start + i, sums);
      store<4>(y + start + i, values);
    });
}

// As within_backward; dx may be dy.
__global__ void nine_backward(const int planes, const int height, const int width, const Dtype factor, const Dtype beta,
                              const Dtype *__restrict__ x, const Dtype *dy, const Dtype *__restrict__ scale, Dtype *dx) {
  const Fours fours(height, width);
  const long long start = (long long)fours.plane * height * width;
  Dtype *ratios = (Dtype *)shared_memory + 2 * threadIdx.z * height * width, *owns = ratios + height * width;
  const bool mine = fours.plane < planes;
  if (mine) fours.each([=](int row, int column, int i) {
      Pack<4> own = load<4>(dy + start + i), ratio = load<4>(x + start + i);
      const Pack<4> scales = load<4>(scale + start + i);
#pragma unroll
      for (int j = 0; j < 4; j++) {
        own.v[j] *= inverse_power(scales.v[j], beta);
        ratio.v[j] = own.v[j] * ratio.v[j] / scales.v[j];
      }
      store<4>(ratios + i, ratio);
      store<4>(owns + i, own);
    });
  __syncthreads();
  if (mine) fours.each([=](int row, int column, int i) {
      const Pack<4> sums = fours.sums(ratios, row, column), values = load<4>(x + start + i);
      Pack<4> own = load<4>(owns + i);
#pragma unroll
      for (int j = 0; j < 4; j++) own.v[j] -= factor * values.v[j] * sums.v[j];
      store<4>(dx + start + i, own);
    });
}
