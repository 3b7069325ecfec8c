// Softmax over (outer, classes, inner): n = outer * inner positions, rows when inner is 1, else columns.
#include "softmax.cuh"

template <class Threads>
__device__ __forceinline__ void rows_forward(const int n, const int classes, const Dtype *x, Dtype *y) {
  const Threads threads;
  STRIDE(row, threads.first, n, threads.step)
  softmax_row(threads, classes, x + (long long)row * classes, y + (long long)row * classes);
}

__global__ void forward(const int n, const int classes, const int inner, const Dtype *x, Dtype *y) {
  if (inner == 1 && classes <= LONG_ROW)
    rows_forward<Warp>(n, classes, x, y);
  else if (inner == 1)
    rows_forward<Block>(n, classes, x, y);
  else
    GRID_STRIDE(i, n) {
      const long long start = column_start(i, classes, inner);
      softmax_column(classes, inner, x + start, y + start);
    }
}

template <class Threads>
__device__ __forceinline__ void rows_backward(const int n, const int classes, const Dtype *y, const Dtype *dy, Dtype *dx) {
  const Threads threads;
  STRIDE(row, threads.first, n, threads.step) {
    const long long start = (long long)row * classes;
    Dtype dot = 0;
    STRIDE(k, threads.lane, classes, threads.lanes) dot += y[start + k] * dy[start + k];
    dot = threads.sum(dot);
    STRIDE(k, threads.lane, classes, threads.lanes) dx[start + k] = y[start + k] * (dy[start + k] - dot);
  }
}

__global__ void backward(const int n, const int classes, const int inner, const Dtype *y, const Dtype *dy, Dtype *dx) {
  if (inner == 1 && classes <= LONG_ROW)
    rows_backward<Warp>(n, classes, y, dy, dx);
  else if (inner == 1)
    rows_backward<Block>(n, classes, y, dy, dx);
  else
    GRID_STRIDE(i, n) {
      const long long start = column_start(i, classes, inner);
      Dtype dot = 0;
      for (int k = 0; k < classes; k++) dot += y[start + (long long)k * inner] * dy[start + (long long)k * inner];
      for (int k = 0; k < classes; k++) {
        const long long at = start + (long long)k * inner;
        dx[at] = y[at] * (dy[at] - dot);
      }
    }
}
