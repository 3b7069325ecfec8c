// RNN: the hyperbolic tangent and its gradient.

__global__ void squash(const int n, const Dtype *z, Dtype *h) { GRID_STRIDE(i, n) h[i] = tanh(z[i]); }

// y = tanh(x + b) for rows of `size`, in place.
__global__ void squash_with_bias(const int n, const int size, const Dtype *b, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = tanh(y[i] + b[i % size]);
}

__global__ void squash_gradient(const int n, const Dtype *dy, const Dtype *y, Dtype *dz) {
  GRID_STRIDE(i, n) dz[i] = dy[i] * (1 - y[i] * y[i]);
}
