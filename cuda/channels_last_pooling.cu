// Pooling of channels-last arrays: one thread for eight channels of a place of the result. A row of places is divided
// into segments of a block each (gridDim.x: samples times rows times segments).
#include "channels_last.cuh"

// The part of the result that a thread computes.
struct Item {
  int sample, row, column, vector;
  bool valid;
  long long at;  // of the vector in the result
  __device__ Item(int segments, int rows, int columns, int vectors) {
    const int line = blockIdx.x / segments, i = blockIdx.x % segments * blockDim.x + threadIdx.x;
    sample = line / rows, row = line % rows;
    column = i / vectors, vector = i % vectors;
    valid = column < columns;
    at = ((long long)line * columns * vectors + i) * VECTOR;
  }
};

// The part of a window that is inside the picture, along one axis.
struct Span {
  int begin, end;
  __device__ Span(int window, int size, int kernel, int stride, int pad) {
    begin = window * stride - pad;
    end = min(begin + kernel, size);
    begin = max(begin, 0);
  }
};

// The windows that cover a place, along one axis.
struct Covers {
  int first, last;
  __device__ Covers(int place, int outputs, int kernel, int stride, int pad) {
    first = place + pad < kernel ? 0 : (place + pad - kernel) / stride + 1;
    last = min((place + pad) / stride, outputs - 1);
  }
};

// The divisor of a mean, along one axis.
__device__ int window_size(int window, int size, int kernel, int stride, int pad) {
  const int begin = window * stride - pad;
  return max(1, min(begin + kernel, size + pad) - begin);
}

struct alignas(8) Choices {
  unsigned char v[VECTOR];
};
#define NONE 255  // the choice of a window outside of the picture

// chosen: for each number of y the element of its window, row * kernel_w + column, that is the first of the largest.
__global__ void max_forward(const int segments, const int vectors, const int height, const int width, const int out_h, const int out_w,
                            const int kernel_h, const int kernel_w, const int stride_h, const int stride_w,
                            const int pad_h, const int pad_w, const Element *x, Element *y, void *chosen) {
  const Item item(segments, out_h, out_w, vectors);
  if (!item.valid) return;
  const Span rows(item.row, height, kernel_h, stride_h, pad_h), columns(item.column, width, kernel_w, stride_w, pad_w);
  x += ((long long)item.sample * height * width * vectors + item.vector) * VECTOR;
  Eight best = {};
  int from[VECTOR];
#pragma unroll
  for (int k = 0; k < VECTOR; k++) from[k] = NONE;
  for (int h = rows.begin; h < rows.end; h++)
    for (int w = columns.begin; w < columns.end; w++) {
      const Eight values = load(x + (long long)(h * width + w) * vectors * VECTOR);
      const int element = (h - item.row * stride_h + pad_h) * kernel_w + w - item.column * stride_w + pad_w;
      const bool first = h == rows.begin && w == columns.begin;
#pragma unroll
      for (int k = 0; k < VECTOR; k++)
        if (first || values.v[k] > best.v[k]) best.v[k] = values.v[k], from[k] = element;
    }
  store(y + item.at, best);
  Choices choices;
#pragma unroll
  for (int k = 0; k < VECTOR; k++) choices.v[k] = from[k];
  ((Choices *)chosen)[item.at / VECTOR] = choices;
}

__global__ void max_backward(const int segments, const int vectors, const int height, const int width, const int out_h, const int out_w,
                             const int kernel_h, const int kernel_w, const int stride_h, const int stride_w,
                             const int pad_h, const int pad_w, const Element *dy, const void *chosen, Element *dx) {
  const Item item(segments, height, width, vectors);
  if (!item.valid) return;
  const Covers rows(item.row, out_h, kernel_h, stride_h, pad_h), columns(item.column, out_w, kernel_w, stride_w, pad_w);
  const long long first = (long long)item.sample * out_h * out_w * vectors + item.vector;
  Eight sum = {};
  for (int h = rows.first; h <= rows.last; h++)
    for (int w = columns.first; w <= columns.last; w++) {
      const long long at = first + (long long)(h * out_w + w) * vectors;
      const Choices from = ((const Choices *)chosen)[at];
      const Eight gradients = load(dy + at * VECTOR);
      const int element = (item.row - h * stride_h + pad_h) * kernel_w + item.column - w * stride_w + pad_w;
#pragma unroll
      for (int k = 0; k < VECTOR; k++)
        if (from.v[k] == element) sum.v[k] += gradients.v[k];
    }
  store(dx + item.at, sum);
}

__global__ void ave_forward(const int segments, const int vectors, const int height, const int width, const int out_h, const int out_w,
                            const int kernel_h, const int kernel_w, const int stride_h, const int stride_w,
                            const int pad_h, const int pad_w, const Element *x, Element *y) {
  const Item item(segments, out_h, out_w, vectors);
  if (!item.valid) return;
  const Span rows(item.row, height, kernel_h, stride_h, pad_h), columns(item.column, width, kernel_w, stride_w, pad_w);
  const float size = window_size(item.row, height, kernel_h, stride_h, pad_h) *
                     window_size(item.column, width, kernel_w, stride_w, pad_w);
  x += ((long long)item.sample * height * width * vectors + item.vector) * VECTOR;
  Eight sum = {};
  for (int h = rows.begin; h < rows.end; h++)
    for (int w = columns.begin; w < columns.end; w++) {
      const Eight values = load(x + (long long)(h * width + w) * vectors * VECTOR);
#pragma unroll
      for (int k = 0; k < VECTOR; k++) sum.v[k] += values.v[k];
    }
#pragma unroll
  for (int k = 0; k < VECTOR; k++) sum.v[k] /= size;
  store(y + item.at, sum);
}

__global__ void ave_backward(const int segments, const int vectors, const int height, const int width, const int out_h, const int out_w,
                             const int kernel_h, const int kernel_w, const int stride_h, const int stride_w,
                             const int pad_h, const int pad_w, const Element *dy, Element *dx) {
  const Item item(segments, height, width, vectors);
  if (!item.valid) return;
  const Covers rows(item.row, out_h, kernel_h, stride_h, pad_h), columns(item.column, out_w, kernel_w, stride_w, pad_w);
  dy += ((long long)item.sample * out_h * out_w * vectors + item.vector) * VECTOR;
  Eight sum = {};
  for (int h = rows.first; h <= rows.last; h++)
    for (int w = columns.first; w <= columns.last; w++) {
      const float share = 1.0f / (window_size(h, height, kernel_h, stride_h, pad_h) *
                                  window_size(w, width, kernel_w, stride_w, pad_w));
      const Eight gradients = load(dy + (long long)(h * out_w + w) * vectors * VECTOR);
#pragma unroll
      for (int k = 0; k < VECTOR; k++) sum.v[k] += gradients.v[k] * share;
    }
  store(dx + item.at, sum);
}
