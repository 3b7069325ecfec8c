// LRN across channels, and within a channel.

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

extern __shared__ double shared_memory[];

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
