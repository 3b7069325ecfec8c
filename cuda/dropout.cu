// y = x * scale where the i-th draw lies above the threshold, else 0.
__global__ void drop(const int n, const unsigned long long *state, const unsigned threshold, const Dtype scale, const Dtype *x,
                     Dtype *y) {
  GRID_STRIDE(i, n) y[i] = philox_u32(state, i) > threshold ? x[i] * scale : Dtype(0);
}
