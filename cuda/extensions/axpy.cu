// z = a x + y, with one a for each channel of `inner` places.

__global__ void forward(const int n, const int inner, const Dtype *a, const Dtype *x, const Dtype *y, Dtype *z) {
  GRID_STRIDE(i, n) z[i] = a[i / inner] * x[i] + y[i];
}

__global__ void gradient(const int n, const int inner, const Dtype *a, const Dtype *dz, Dtype *dx) {
  GRID_STRIDE(i, n) dx[i] = a[i / inner] * dz[i];
}

// One block for each channel.
__global__ void factor_gradient(const int inner, const Dtype *x, const Dtype *dz, Dtype *da) {
  const long long start = (long long)blockIdx.x * inner;
  Dtype sum = 0;
  BLOCK_STRIDE(k, inner) sum += x[start + k] * dz[start + k];
  sum = block_sum(sum);
  if (threadIdx.x == 0) da[blockIdx.x] = sum;
}
