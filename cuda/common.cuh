// Definitions for all kernel files; minicaffe.cuda.kernels prepends this file to each of them.
// Dtype is float or double; DTYPE_BITS is 32 or 64, for the preprocessor.

#if DTYPE_BITS == 64
#define DTYPE_MAX 1.7976931348623157e308
#define DTYPE_MIN 2.2250738585072014e-308  // the smallest normal number, as FLT_MIN
#else
#define DTYPE_MAX 3.402823466e38f
#define DTYPE_MIN 1.175494351e-38f
#endif

// Runs the following statement for i = first, first + step, ... below n. Valid for n and step up to 2^31 - 1: a larger
// i is compared as an unsigned number, which ends the loop.
#define STRIDE(i, first, n, step) for (int i = (first); (unsigned)i < (unsigned)(n); i += (unsigned)(step))

// Runs the following statement for this thread's share of the i in [0, n), divided among the grid or among a block.
#define GRID_STRIDE(i, n) STRIDE(i, blockIdx.x * blockDim.x + threadIdx.x, n, blockDim.x * gridDim.x)
#define BLOCK_STRIDE(i, n) STRIDE(i, threadIdx.x, n, blockDim.x)

// ReLU with a slope below 0; a slope of 0 gives 0 even for -inf, and nan propagates.
__device__ __forceinline__ Dtype rectified(Dtype x, Dtype slope) {
  return x < 0 ? (slope == 0 ? Dtype(0) : x * slope) : x;
}

// ---- reductions ----
// All lanes of a warp, or all threads of a one-dimensional block, must call; all of them get the result. The order
// of additions is fixed, so results are the same in every run. A block may have up to 1024 threads.

template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
  for (int d = 16; d; d >>= 1) value += __shfl_xor_sync(0xffffffffu, value, d);
  return value;
}

template <typename T>
__device__ __forceinline__ T warp_max(T value) {
  for (int d = 16; d; d >>= 1) value = max(value, __shfl_xor_sync(0xffffffffu, value, d));
  return value;
}

// Whole warps are assumed: launch with a multiple of 32 threads.
template <typename T>
__device__ T block_sum(T value) {
  __shared__ T partial[32];
  value = warp_sum(value);
  __syncthreads();  // the values of an earlier call may still be read
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  return warp_sum(threadIdx.x % 32 < blockDim.x / 32 ? partial[threadIdx.x % 32] : T(0));
}

template <typename T>
__device__ T block_max(T value) {
  __shared__ T partial[32];
  value = warp_max(value);
  __syncthreads();
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  return warp_max(threadIdx.x % 32 < blockDim.x / 32 ? partial[threadIdx.x % 32] : partial[0]);
}

// Whether this block is the last of `blocks` that call with the same ticket, a counter in global memory that is 0 before
// the first call and after the last. What the other blocks have written before is visible to the last one, which may
// finish their common work. All threads of a block must call.
__device__ __forceinline__ bool last_block(unsigned *ticket, unsigned blocks) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0 && threadIdx.z == 0) last = atomicInc(ticket, blocks - 1) == blocks - 1;
  __syncthreads();
  __threadfence();
  return last;
}

// Notes a label outside the classes in `wrong`, which is (0, 0) before: the number of such labels, and one of them.
__device__ __forceinline__ void note_wrong(Dtype *wrong, Dtype label) {
  if (atomicAdd(wrong, Dtype(1)) == 0) wrong[1] = label;
}

// ---- random numbers: Philox 4x64-10, the same as numpy's ----

__device__ __forceinline__ unsigned long long philox_word(unsigned long long key0, unsigned long long key1,
                                                          unsigned long long counter, int word) {
  unsigned long long c0 = counter, c1 = 0, c2 = 0, c3 = 0;
  for (int round = 0; round < 10; round++) {
    const unsigned long long high0 = __umul64hi(0xD2E7470EE14C6C93ull, c0), low0 = 0xD2E7470EE14C6C93ull * c0;
    const unsigned long long high1 = __umul64hi(0xCA5A826395121157ull, c2), low1 = 0xCA5A826395121157ull * c2;
    c0 = high1 ^ c1 ^ key0;
    c1 = low1;
    c2 = high0 ^ c3 ^ key1;
    c3 = low0;
    key0 += 0x9E3779B97F4A7C15ull;
    key1 += 0xBB67AE8584CAA73Bull;
  }
  return word == 0 ? c0 : word == 1 ? c1 : word == 2 ? c2 : c3;
}

// Number i of the next draw from a stream, that of minicaffe.core.random.Stream.uniform_u32. state: key, key, the counter
// of the next draw, the counter of the last one (minicaffe.cuda.random). again: number i of the last draw.
__device__ __forceinline__ unsigned philox_u32(const unsigned long long *state, int i, bool again = false) {
  const unsigned long long word = philox_word(state[0], state[1], state[again ? 3 : 2] + i / 8, i % 8 / 2);
  return i % 2 ? (unsigned)(word >> 32) : (unsigned)word;
}

// Ends a draw of n numbers; one thread calls it when all of them have been computed, see `last_block`.
__device__ __forceinline__ void drawn(unsigned long long *state, int n) {
  state[3] = state[2];
  state[2] += (n + 7u) / 8;
}
