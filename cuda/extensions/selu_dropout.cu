// y = x * scale + shift where the i-th random number is above the threshold, else `dropped`.
__global__ void forward(const int n, unsigned long long *state, unsigned *ticket, const unsigned threshold, const Dtype scale,
                        const Dtype shift, const Dtype dropped, const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = philox_u32(state, i) > threshold ? x[i] * scale + shift : dropped;
  if (last_block(ticket, gridDim.x) && threadIdx.x == 0) drawn(state, n);
}
