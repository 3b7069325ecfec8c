// y = x * scale where the i-th draw lies above the threshold, else 0. A thread takes the eight numbers that one block of
// the generator gives; n is the number of blocks.
__global__ void drop(const int n, const int count, const unsigned long long *state, const unsigned threshold,
                     const Dtype scale, const Dtype *x, Dtype *y) {
  GRID_STRIDE(block, n) {
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const int i = 8 * block + j;
      if (i < count) y[i] = philox_u32(state, i) > threshold ? x[i] * scale : Dtype(0);
    }
  }
}
