// y = x * scale where the i-th random number is above the threshold, else 0. A thread uses the eight numbers of one
// block of the generator; n is the number of blocks.
__global__ void drop(const int n, const int count, const unsigned long long *state, const unsigned threshold,
                     const Dtype scale, const Dtype *x, Dtype *y) {
  const unsigned long long key0 = state[0], key1 = state[1], counter = state[2];
  GRID_STRIDE(block, n) {
    unsigned long long words[4];
#pragma unroll
    for (int w = 0; w < 4; w++) words[w] = philox_word(key0, key1, counter + block, w);
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const unsigned i = 8u * block + j;
      if (i < (unsigned)count) y[i] = (unsigned)(words[j / 2] >> (j % 2 * 32)) > threshold ? x[i] * scale : Dtype(0);
    }
  }
}
