#include "packs.cuh"

// y = x * scale where the i-th random number is above the threshold, else 0. A thread uses the eight numbers of one
// block of the generator; n is the number of blocks. Without a ticket the numbers are those of the last draw.
__global__ void drop(const int n, const int count, unsigned long long *state, unsigned *ticket, const unsigned threshold,
                     const Dtype scale, const Dtype *x, Dtype *y) {
  const unsigned long long key0 = state[0], key1 = state[1], counter = state[ticket ? 2 : 3];
  const bool packed = aligned(x, y);
  GRID_STRIDE(block, n) {
    bool kept[8];
#pragma unroll
    for (int w = 0; w < 4; w++) {
      const unsigned long long word = philox_word(key0, key1, counter + block, w);
      kept[2 * w] = (unsigned)word > threshold;
      kept[2 * w + 1] = (unsigned)(word >> 32) > threshold;
    }
    const unsigned first = 8u * block;
    if (packed && first + 8 <= (unsigned)count) {
#pragma unroll
      for (int p = 0; p < 8 / PACK; p++) {
        Pack<> values = ((const Pack<> *)(x + first))[p];
#pragma unroll
        for (int j = 0; j < PACK; j++) values.v[j] = kept[p * PACK + j] ? values.v[j] * scale : Dtype(0);
        ((Pack<> *)(y + first))[p] = values;
      }
    } else {
#pragma unroll
      for (int j = 0; j < 8; j++)
        if (first + j < (unsigned)count) y[first + j] = kept[j] ? x[first + j] * scale : Dtype(0);
    }
  }
  if (ticket && last_block(ticket, gridDim.x) && threadIdx.x == 0) drawn(state, count);
}
