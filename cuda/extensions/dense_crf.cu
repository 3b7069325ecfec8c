// DenseCRF: the logarithm of probabilities, at least that of the smallest normal float.

__global__ void logarithm(const int n, const Dtype *q, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = log(max(q[i], Dtype(1.17549435e-38f)));
}
