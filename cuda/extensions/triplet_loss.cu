// The loss of a triplet, and whether it has one; one warp for each triplet.
__global__ void losses(const int width, const Dtype margin, const Dtype *a, const Dtype *p, const Dtype *n, Dtype *loss,
                       Dtype *active) {
  const long long start = (long long)blockIdx.x * width;
  Dtype sum = 0;
  STRIDE(k, threadIdx.x, width, 32) {
    const Dtype near = a[start + k] - p[start + k], far = a[start + k] - n[start + k];
    sum += near * near - far * far;
  }
  sum = margin + warp_sum(sum);
  if (threadIdx.x) return;
  loss[blockIdx.x] = sum <= 0 ? Dtype(0) : sum;  // nan stays
  active[blockIdx.x] = sum > 0;
}

__global__ void gradient(const int n, const int width, const Dtype *active, const Dtype factor, const Dtype *weight,
                         const Dtype *u, const Dtype *v, Dtype *dx) {
  GRID_STRIDE(i, n) dx[i] = active[i / width] * factor * *weight * (u[i] - v[i]);
}
