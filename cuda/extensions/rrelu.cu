// y = x where x > 0, else x / s, with s between least and greatest from the i-th random number.
__global__ void draw(const int n, unsigned long long *state, unsigned *ticket, const Dtype least, const Dtype greatest,
                     const Dtype *x, Dtype *slopes, Dtype *y) {
  GRID_STRIDE(i, n) {
    const double s = least + ((double)greatest - least) * (philox_u32(state, i) / 4294967296.0);
    const Dtype slope = x[i] > 0 ? Dtype(1) : Dtype(1 / s);
    slopes[i] = slope;
    y[i] = x[i] * slope;
  }
  if (last_block(ticket, gridDim.x) && threadIdx.x == 0) drawn(state, n);
}

__global__ void rectify(const int n, const Dtype negative, const Dtype *x, Dtype *slopes, Dtype *y) {
  GRID_STRIDE(i, n) {
    const Dtype slope = x[i] > 0 ? Dtype(1) : negative;
    slopes[i] = slope;
    y[i] = x[i] * slope;
  }
}
