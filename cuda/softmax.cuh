// The softmax of a row of `classes` numbers that lie one after another, by a warp, or by a block where rows are long.

#define LONG_ROW 1024  // as in minicaffe/layers/shared/softmax.py

struct Warp {  // the threads that work on a row, and their rows
  int lane, lanes, first, step;
  __device__ Warp() : lane(threadIdx.x % 32), lanes(32) {
    const int warps = blockDim.x / 32;
    first = blockIdx.x * warps + threadIdx.x / 32;
    step = gridDim.x * warps;
  }
  __device__ Dtype sum(Dtype value) const { return warp_sum(value); }
  __device__ Dtype largest(Dtype value) const { return warp_max(value); }
};

struct Block {
  int lane, lanes, first, step;
  __device__ Block() : lane(threadIdx.x), lanes(blockDim.x), first(blockIdx.x), step(gridDim.x) {}
  __device__ Dtype sum(Dtype value) const { return block_sum(value); }
  __device__ Dtype largest(Dtype value) const { return block_max(value); }
};

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
