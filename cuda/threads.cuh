// The threads that work on one of n rows, each with its share of the elements: a warp, or a block where rows are long.

#define LONG_ROW 1024  // as in minicaffe.cuda.kernels

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

