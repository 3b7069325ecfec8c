// Vectors of 8 channels of a channels-last array, whose elements are bfloat16 (-DBF16) or float.
#include "instructions.cuh"

#define VECTOR 8

#ifdef BF16

typedef unsigned short Element;

// Two numbers rounded to bfloat16, to nearest with ties to even; the first is in the lower half.
__device__ __forceinline__ unsigned rounded_pair(float first, float second) {
#if defined(__CUDA_EMU__) || __CUDA_ARCH__ >= 800
  return pair_bf16(first, second);
#else
  unsigned bits[2] = {__float_as_uint(first), __float_as_uint(second)};
  for (int i = 0; i < 2; i++)
    bits[i] = (bits[i] & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : (bits[i] + 0x7fffu + (bits[i] >> 16 & 1)) >> 16;
  return bits[0] | bits[1] << 16;
#endif
}

// A number as it is stored.
__device__ __forceinline__ float stored(float x) { return __uint_as_float(rounded_pair(0, x) & 0xffff0000u); }

#else

typedef float Element;
__device__ __forceinline__ float stored(float x) { return x; }

#endif

struct Eight {
  float v[VECTOR];
};

// 16 bytes.
struct alignas(16) Words {
  unsigned v[4];
};
struct alignas(16) Four {
  float v[4];
};

// Addresses are multiples of 16 bytes.
__device__ __forceinline__ Eight load(const Element *from) {
  Eight x;
#ifdef BF16
  const Words pairs = *(const Words *)from;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    x.v[2 * i] = __uint_as_float(pairs.v[i] << 16);
    x.v[2 * i + 1] = __uint_as_float(pairs.v[i] & 0xffff0000u);
  }
#else
  const Four low = *(const Four *)from, high = *(const Four *)(from + 4);
#pragma unroll
  for (int i = 0; i < 4; i++) x.v[i] = low.v[i], x.v[4 + i] = high.v[i];
#endif
  return x;
}

__device__ __forceinline__ void store(Element *to, const Eight &x) {
#ifdef BF16
  Words pairs;
#pragma unroll
  for (int i = 0; i < 4; i++) pairs.v[i] = rounded_pair(x.v[2 * i], x.v[2 * i + 1]);
  *(Words *)to = pairs;
#else
  Four low, high;
#pragma unroll
  for (int i = 0; i < 4; i++) low.v[i] = x.v[i], high.v[i] = x.v[4 + i];
  *(Four *)to = low;
  *(Four *)(to + 4) = high;
#endif
}

// What a thread does in an array of rows of `vectors`: of a block of 256 threads, each has one vector of up to 8 (64
// channels, 128 bytes in bfloat16) in each of its rows. gridDim.x is blocks for all vectors times blocks for rows.
struct Lane {
  int column, columns;  // of the block's vectors
  int vector;           // its vector; beyond the last one: -1
  int row, rows;        // of the block's rows; the threads that are left over have a row beyond the last
  int chunk, part;      // of the vectors and of the rows that the block has
  __device__ Lane(int vectors) {
    columns = min(vectors, 8);
    const int chunks = (vectors + columns - 1) / columns;
    chunk = blockIdx.x % chunks, part = blockIdx.x / chunks;
    rows = 256 / columns;
    row = threadIdx.x / columns, column = threadIdx.x % columns;
    vector = chunk * columns + column;
    if (vector >= vectors || row >= rows) vector = -1;
  }
};
