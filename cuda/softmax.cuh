// The softmax of a row of `classes` numbers, which lie one after another or at a distance.
#include "threads.cuh"

// A thread reads and writes the same elements in each step, so in and out may be one row.
template <class Threads>
__device__ __forceinline__ void softmax_row(const Threads &threads, const int classes, const Dtype *in, Dtype *out) {
  Dtype largest = -DTYPE_MAX, sum = 0;
  STRIDE(k, threads.lane, classes, threads.lanes) largest = max(largest, in[k]);
  largest = threads.largest(largest);
  STRIDE(k, threads.lane, classes, threads.lanes) {
    const Dtype value = exp(in[k] - largest);
    out[k] = value;
    sum += value;
  }
  sum = threads.sum(sum);
  STRIDE(k, threads.lane, classes, threads.lanes) out[k] /= sum;
}

// The softmax of `classes` numbers at a distance, by one thread.
__device__ __forceinline__ void softmax_column(const int classes, const int distance, const Dtype *in, Dtype *out) {
  Dtype largest = -DTYPE_MAX, sum = 0;
  for (int k = 0; k < classes; k++) largest = max(largest, in[(long long)k * distance]);
  for (int k = 0; k < classes; k++) {
    const Dtype value = exp(in[(long long)k * distance] - largest);
    out[(long long)k * distance] = value;
    sum += value;
  }
  for (int k = 0; k < classes; k++) out[(long long)k * distance] /= sum;
}

// The first element of column i of (outer, classes, inner).
__device__ __forceinline__ long long column_start(const int i, const int classes, const int inner) {
  const int outer = i / inner;
  return (long long)outer * classes * inner + (i - outer * inner);
}
