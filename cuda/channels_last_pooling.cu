// Pooling of channels-last arrays: one thread for eight channels of a place of the result, one block for each row of
// places (gridDim.x: samples times rows).
#include "channels_last.cuh"

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
__global__ void max_forward(const int vectors, const int height, const int width, const int out_h, const int out_w,
                            const int kernel_h, const int kernel_w, const int stride_h, const int stride_w,
                            const int pad_h, const int pad_w, const Element *x, Element *y, void *chosen) {
  const int out_row = blockIdx.x % out_h;
  const Span rows(out_row, height, kernel_h, stride_h, pad_h);
  x += (long long)(blockIdx.x / out_h) * height * width * vectors * VECTOR;
  const long long first = (long long)blockIdx.x * out_w * vectors;
  BLOCK_STRIDE(i, out_w * vectors) {
    const int vector = i % vectors, out_column = i / vectors;
    const Span columns(out_column, width, kernel_w, stride_w, pad_w);
    Eight best = {};
    Choices from;
#pragma unroll
    for (int k = 0; k < VECTOR; k++) from.v[k] = NONE;
    for (int h = rows.begin; h < rows.end; h++)
      for (int w = columns.begin; w < columns.end; w++) {
        const Eight values = load(x + ((long long)(h * width + w) * vectors + vector) * VECTOR);
        const int element = (h - out_row * stride_h + pad_h) * kernel_w + w - out_column * stride_w + pad_w;
#pragma unroll
        for (int k = 0; k < VECTOR; k++)
          if (from.v[k] == NONE || values.v[k] > best.v[k]) best.v[k] = values.v[k], from.v[k] = element;
      }
    store(y + (first + i) * VECTOR, best);
    if (chosen) ((Choices *)chosen)[first + i] = from;
  }
}

__global__ void max_backward(const int vectors, const int height, const int width, const int out_h, const int out_w,
                             const int kernel_h, const int kernel_w, const int stride_h, const int stride_w,
                             const int pad_h, const int pad_w, const Element *dy, const void *chosen, Element *dx) {
  const int row = blockIdx.x % height;
  const Covers rows(row, out_h, kernel_h, stride_h, pad_h);
  const long long sample = (long long)(blockIdx.x / height) * out_h * out_w * vectors;
  const Choices *choices = (const Choices *)chosen + sample;
  dy += sample * VECTOR;
  BLOCK_STRIDE(i, width * vectors) {
    const int vector = i % vectors, column = i / vectors;
    const Covers columns(column, out_w, kernel_w, stride_w, pad_w);
    Eight sum = {};
    for (int h = rows.first; h <= rows.last; h++)
      for (int w = columns.first; w <= columns.last; w++) {
        const long long at = (long long)(h * out_w + w) * vectors + vector;
        const Choices from = choices[at];
        const Eight gradients = load(dy + at * VECTOR);
        const int element = (row - h * stride_h + pad_h) * kernel_w + column - w * stride_w + pad_w;
#pragma unroll
        for (int k = 0; k < VECTOR; k++)
          if (from.v[k] == element) sum.v[k] += gradients.v[k];
      }
    store(dx + ((long long)blockIdx.x * width * vectors + i) * VECTOR, sum);
  }
}

__global__ void ave_forward(const int vectors, const int height, const int width, const int out_h, const int out_w,
                            const int kernel_h, const int kernel_w, const int stride_h, const int stride_w,
                            const int pad_h, const int pad_w, const Element *x, Element *y) {
  const int out_row = blockIdx.x % out_h;
  const Span rows(out_row, height, kernel_h, stride_h, pad_h);
  const int high = window_size(out_row, height, kernel_h, stride_h, pad_h);
  x += (long long)(blockIdx.x / out_h) * height * width * vectors * VECTOR;
  BLOCK_STRIDE(i, out_w * vectors) {
    const int vector = i % vectors, out_column = i / vectors;
    const Span columns(out_column, width, kernel_w, stride_w, pad_w);
    const float size = high * window_size(out_column, width, kernel_w, stride_w, pad_w);
    Eight sum = {};
    for (int h = rows.begin; h < rows.end; h++)
      for (int w = columns.begin; w < columns.end; w++) {
        const Eight values = load(x + ((long long)(h * width + w) * vectors + vector) * VECTOR);
#pragma unroll
        for (int k = 0; k < VECTOR; k++) sum.v[k] += values.v[k];
      }
#pragma unroll
    for (int k = 0; k < VECTOR; k++) sum.v[k] /= size;
    store(y + ((long long)blockIdx.x * out_w * vectors + i) * VECTOR, sum);
  }
}

__global__ void ave_backward(const int vectors, const int height, const int width, const int out_h, const int out_w,
                             const int kernel_h, const int kernel_w, const int stride_h, const int stride_w,
                             const int pad_h, const int pad_w, const Element *dy, Element *dx) {
  const int row = blockIdx.x % height;
  const Covers rows(row, out_h, kernel_h, stride_h, pad_h);
  dy += (long long)(blockIdx.x / height) * out_h * out_w * vectors * VECTOR;
  BLOCK_STRIDE(i, width * vectors) {
    const int vector = i % vectors, column = i / vectors;
    const Covers columns(column, out_w, kernel_w, stride_w, pad_w);
    Eight sum = {};
    for (int h = rows.first; h <= rows.last; h++)
      for (int w = columns.first; w <= columns.last; w++) {
        const float share = 1.0f / (window_size(h, height, kernel_h, stride_h, pad_h) *
                                    window_size(w, width, kernel_w, stride_w, pad_w));
        const Eight gradients = load(dy + ((long long)(h * out_w + w) * vectors + vector) * VECTOR);
#pragma unroll
        for (int k = 0; k < VECTOR; k++) sum.v[k] += gradients.v[k] * share;
      }
    store(dx + ((long long)blockIdx.x * width * vectors + i) * VECTOR, sum);
  }
}
