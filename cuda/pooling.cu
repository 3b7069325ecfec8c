// Maximum and average pooling of planes, that is channels of samples. A block works on blockDim.z planes, and on a strip
// of their rows, number blockIdx.y; its threads are (columns, rows, planes). Each thread computes outputs in forward and
// inputs in backward, so that no atomics are needed. Activations in front of the pooling, which give its bottom, and
// behind it, on its top in place, may be computed with it.
#include "packs.cuh"
#include "threads.cuh"

enum Kind { NONE, RELU, SIGMOID, TANH };  // as in minicaffe.cuda.pooling

struct Activation {
  int kind;
  Dtype slope;  // of a ReLU

  __device__ __forceinline__ Dtype forward(Dtype x) const {
    if (kind == RELU) return rectified(x, slope);
    if (kind == SIGMOID) return Dtype(0.5) * tanh(Dtype(0.5) * x) + Dtype(0.5);
    return kind == TANH ? tanh(x) : x;
  }
  __device__ __forceinline__ Dtype gradient(Dtype y, Dtype dy) const {
    if (kind == RELU) return y > 0 ? dy : dy * slope;
    if (kind == SIGMOID) return dy * y * (1 - y);
    return kind == TANH ? dy * (1 - y * y) : dy;
  }
};

// Windows along one axis; factor and shift divide by the stride (`divisor` in minicaffe.cuda.tables).
struct Axis {
  int size, outputs, kernel, stride, pad;
  unsigned factor, shift;

  // The part of a window inside the picture, and its size with the padding.
  __device__ __forceinline__ int begin(int window) const { return max(window * stride - pad, 0); }
  __device__ __forceinline__ int end(int window) const { return min(window * stride - pad + kernel, size); }
  __device__ __forceinline__ int extent(int window) const {
    const int begin = window * stride - pad;
    return max(1, min(begin + kernel, size + pad) - begin);
  }
  // The windows that cover a place.
  __device__ __forceinline__ int windows_before(int n) const { return (int)((__umulhi(n, factor) + (unsigned)n) >> shift); }
  __device__ __forceinline__ int first(int place) const {
    return place + pad < kernel ? 0 : windows_before(place + pad - kernel) + 1;
  }
  __device__ __forceinline__ int last(int place) const { return min(windows_before(place + pad), outputs - 1); }
};

extern __shared__ double shared_memory[];

// The outputs of a strip of a plane.
template <bool MASKED>
__device__ __forceinline__ void store_windows(const Axis &down, const Axis &across, const int rows, const Activation &behind,
                                              const Dtype *picture, Dtype *__restrict__ y, int *__restrict__ mask,
                                              Dtype *__restrict__ top_mask) {
  const int last = min((int)(blockIdx.y + 1) * rows, down.outputs);
  for (int row = blockIdx.y * rows + threadIdx.y; row < last; row += blockDim.y)
    for (int column = threadIdx.x; column < across.outputs; column += blockDim.x) {
      const int h_end = down.end(row), w_begin = across.begin(column), w_end = across.end(column);
      const int i = row * across.outputs + column;
      Dtype value = 0;
      int best = -1;
      for (int h = down.begin(row); h < h_end; h++)
        for (int w = w_begin; w < w_end; w++) {
          const Dtype here = picture[h * across.size + w];
          if (!MASKED)
            value += here;
          else if (best < 0 || here > value)
            value = here, best = h * across.size + w;
        }
      if (!MASKED) value /= down.extent(row) * across.extent(column);
      y[i] = behind.forward(value);
      if (MASKED) mask[i] = best;
      if (top_mask) top_mask[i] = best;
    }
}

// mask: row * width + column of each maximum, the first in reading order; -1 (and the value 0) for a window outside.
// Without a mask y is the average. With an activation in front, `acted` is its top; the strips are whole planes then.
__global__ void forward(const int planes, const int height, const int width, const int out_h, const int out_w,
                        const int kernel_h, const int kernel_w, const int stride_h, const int stride_w, const int pad_h,
                        const int pad_w, const int rows, const int front_kind, const Dtype front_slope, const int behind_kind,
                        const Dtype behind_slope, const Dtype *x, Dtype *acted, Dtype *y, int *mask, Dtype *top_mask) {
  const Axis down = {height, out_h, kernel_h, stride_h, pad_h, 0, 0}, across = {width, out_w, kernel_w, stride_w, pad_w, 0, 0};
  const Activation front = {front_kind, front_slope}, behind = {behind_kind, behind_slope};
  const int plane = blockIdx.x * blockDim.z + threadIdx.z, places = height * width;
  const Dtype *picture = x + (long long)plane * places;
  if (front.kind) {
    Dtype *staged = (Dtype *)shared_memory + threadIdx.z * places;
    const int thread = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
    if (plane < planes) STRIDE(i, thread, places, threads) {
        staged[i] = front.forward(picture[i]);
        acted[(long long)plane * places + i] = staged[i];
      }
    __syncthreads();
  }
  if (plane >= planes) return;
  const long long windows = (long long)plane * out_h * out_w;
  y += windows;
  if (mask) mask += windows;
  if (top_mask) top_mask += windows;
  const Dtype *staged = (const Dtype *)shared_memory + threadIdx.z * places;
  if (front.kind && mask)
    store_windows<true>(down, across, rows, behind, staged, y, mask, top_mask);
  else if (front.kind)
    store_windows<false>(down, across, rows, behind, staged, y, mask, top_mask);
  else if (mask)
    store_windows<true>(down, across, rows, behind, picture, y, mask, top_mask);
  else
    store_windows<false>(down, across, rows, behind, picture, y, mask, top_mask);
}

// The gradients of windows: of all that cover a strip of a plane, in shared memory (STAGED), or computed at each use.
// MASKED: they go to the places of maxima, else to all places.
template <bool STAGED, bool MASKED>
struct Gradients {
  const Axis &down, &across;
  const Dtype *dy;  // of the plane, or from row `first` of the windows on
  const int *mask;
  int first;

  __device__ __forceinline__ Dtype value(int h, int w) const {
    const Dtype d = dy[(h - first) * across.outputs + w];
    return STAGED || MASKED ? d : d / (down.extent(h) * across.extent(w));
  }

  // The gradients of T, a Pack or one place, beginning at (row, column).
  template <class T>
  __device__ __forceinline__ T at(int row, int column) const {
    constexpr int COLUMNS = sizeof(T) / sizeof(Dtype);
    T sums = {};
    Dtype *sum = (Dtype *)&sums;
    const int h_last = down.last(row), w_first = across.first(column), w_last = across.last(column + COLUMNS - 1);
    for (int h = down.first(row); h <= h_last; h++)
      for (int w = w_first; w <= w_last; w++) {
        const Dtype d = value(h, w);
        const int offset = MASKED ? mask[(h - first) * across.outputs + w] - (row * across.size + column)
                                  : column + across.pad - w * across.stride;
#pragma unroll
        for (int j = 0; j < COLUMNS; j++)
          if (MASKED ? offset == j : (unsigned)(offset + j) < (unsigned)across.kernel) sum[j] += d;
      }
    return sums;
  }
};

// dx from the sums: the activation's gradient, whose top is x; `pooled` keeps the sums, if it is not null.
template <class T, class From>
__device__ __forceinline__ void store_rows(const From &from, const Activation &front, const int begin, const int end,
                                           const Dtype *__restrict__ x, Dtype *__restrict__ pooled, Dtype *__restrict__ dx) {
  constexpr int COLUMNS = sizeof(T) / sizeof(Dtype);
  const int width = from.across.size;
  for (int row = begin + threadIdx.y; row < end; row += blockDim.y)
    for (int column = COLUMNS * threadIdx.x; column < width; column += COLUMNS * blockDim.x) {
      T sums = from.template at<T>(row, column);
      const int i = (row * width + column) / COLUMNS;
      if (pooled) ((T *)pooled)[i] = sums;
      if (front.kind) {
        const T values = ((const T *)x)[i];
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
          Dtype &sum = ((Dtype *)&sums)[j];
          sum = front.gradient(((const Dtype *)&values)[j], sum);
        }
      }
      ((T *)dx)[i] = sums;
    }
}

template <bool STAGED, bool MASKED>
__device__ __forceinline__ void store_gradients(const Gradients<STAGED, MASKED> &from, const Activation &front,
                                                const int begin, const int end, const Dtype *x, Dtype *pooled, Dtype *dx) {
  if (from.across.size % PACK == 0 && aligned(dx, front.kind ? x : dx, pooled))
    store_rows<Pack<>>(from, front, begin, end, x, pooled, dx);
  else
    store_rows<Dtype>(from, front, begin, end, x, pooled, dx);
}

// window_rows: how many rows of windows of a plane fit in shared memory, which then are all that cover a strip; 0: none
// are there. With an activation behind, whose top is y, dy becomes the gradient of its bottom; the strips are whole
// planes then.
__global__ void __launch_bounds__(256, 4) backward(const int planes, const int height, const int width, const int out_h, const int out_w,
                         const int kernel_h, const int kernel_w, const int stride_h, const int stride_w, const int pad_h,
                         const int pad_w, const int rows, const unsigned factor_h, const unsigned shift_h,
                         const unsigned factor_w, const unsigned shift_w, const int window_rows, const int front_kind,
                         const Dtype front_slope, const int behind_kind, const Dtype behind_slope, const Dtype *x,
                         const Dtype *y, const int *mask, Dtype *dy, Dtype *pooled, Dtype *dx) {
  const Axis down = {height, out_h, kernel_h, stride_h, pad_h, factor_h, shift_h};
  const Axis across = {width, out_w, kernel_w, stride_w, pad_w, factor_w, shift_w};
  const Activation front = {front_kind, front_slope}, behind = {behind_kind, behind_slope};
  const int plane = blockIdx.x * blockDim.z + threadIdx.z;
  const int begin = blockIdx.y * rows, end = min(begin + rows, height);
  const long long windows = (long long)plane * out_h * out_w, places = (long long)plane * height * width;
  const int room = window_rows * out_w;  // with an activation behind, windows that are outside the picture count too
  const int first = behind.kind ? 0 : down.first(begin), last = behind.kind ? out_h - 1 : down.last(end - 1);
  Dtype *values = (Dtype *)shared_memory + threadIdx.z * room;
  int *maxima = (int *)((Dtype *)shared_memory + blockDim.z * room) + threadIdx.z * room;
  if (window_rows) {
    if (plane < planes)
      for (int h = first + threadIdx.y; h <= last; h += blockDim.y)
        for (int w = threadIdx.x; w < out_w; w += blockDim.x) {
          const long long i = windows + h * out_w + w;
          Dtype d = dy[i];
          if (behind.kind) dy[i] = d = behind.gradient(y[i], d);
          values[(h - first) * out_w + w] = mask ? d : d / (down.extent(h) * across.extent(w));
          if (mask) maxima[(h - first) * out_w + w] = mask[i];
        }
    __syncthreads();
  }
  if (plane >= planes) return;
  x += places, dx += places;
  if (pooled) pooled += places;
  if (window_rows && mask)
    store_gradients<true, true>({down, across, values, maxima, first}, front, begin, end, x, pooled, dx);
  else if (window_rows)
    store_gradients<true, false>({down, across, values, maxima, first}, front, begin, end, x, pooled, dx);
  else if (mask)
    store_gradients<false, true>({down, across, dy + windows, mask + windows, 0}, front, begin, end, x, pooled, dx);
  else
    store_gradients<false, false>({down, across, dy + windows, mask, 0}, front, begin, end, x, pooled, dx);
}

// The mean of a whole plane, of n.
template <class Threads>
__device__ __forceinline__ void means(const int n, const int places, const Dtype *x, Dtype *y) {
  const Threads threads;
  STRIDE(plane, threads.first, n, threads.step) {
    const Dtype *picture = x + (long long)plane * places;
    Dtype sum = 0;
    STRIDE(i, threads.lane, places, threads.lanes) sum += picture[i];
    sum = threads.sum(sum);
    if (threads.lane == 0) y[plane] = sum / places;
  }
}

__global__ void global_ave_forward(const int n, const int places, const Dtype *x, Dtype *y) {
  if (places <= LONG_ROW)
    means<Warp>(n, places, x, y);
  else
    means<Block>(n, places, x, y);
}

// Chooses in each window the first element at which the running sum reaches a random fraction of the total.
__global__ void stochastic_train(const int n, const int height, const int width, const int out_h, const int out_w,
                                 const int kernel_h, const int kernel_w, const int stride_h, const int stride_w,
                                 unsigned long long *state, unsigned *ticket, const Dtype *x, Dtype *y, int *mask) {
  const Axis down = {height, out_h, kernel_h, stride_h, 0, 0, 0}, across = {width, out_w, kernel_w, stride_w, 0, 0, 0};
  GRID_STRIDE(i, n) {
    const int row = i / out_w % out_h, column = i % out_w, h_end = down.end(row), w_end = across.end(column);
    const Dtype *picture = x + (long long)(i / out_w / out_h) * height * width;
    Dtype sum = 0, passed = 0;
    for (int h = down.begin(row); h < h_end; h++)
      for (int w = across.begin(column); w < w_end; w++) sum += picture[h * width + w];
    const Dtype threshold = Dtype(philox_u32(state, i) * (1.0 / 4294967296.0)) * sum;
    int chosen = -1;
    for (int h = down.begin(row); h < h_end; h++)
      for (int w = across.begin(column); w < w_end; w++) {
        passed += picture[h * width + w];
        if (chosen < 0 && passed >= threshold) chosen = h * width + w;
      }
    y[i] = chosen < 0 ? Dtype(0) : picture[chosen];
    mask[i] = chosen;
  }
  if (last_block(ticket, gridDim.x) && threadIdx.x == 0) drawn(state, n);
}

__global__ void stochastic_test(const int n, const int height, const int width, const int out_h, const int out_w,
                                const int kernel_h, const int kernel_w, const int stride_h, const int stride_w, const Dtype *x,
                                Dtype *y) {
  const Axis down = {height, out_h, kernel_h, stride_h, 0, 0, 0}, across = {width, out_w, kernel_w, stride_w, 0, 0, 0};
  GRID_STRIDE(i, n) {
    const int row = i / out_w % out_h, column = i % out_w, h_end = down.end(row), w_end = across.end(column);
    const Dtype *picture = x + (long long)(i / out_w / out_h) * height * width;
    Dtype sum = 0, squares = 0;
    for (int h = down.begin(row); h < h_end; h++)
      for (int w = across.begin(column); w < w_end; w++) {
        sum += picture[h * width + w];
        squares += picture[h * width + w] * picture[h * width + w];
      }
    y[i] = squares / max(sum, DTYPE_MIN);
  }
}
