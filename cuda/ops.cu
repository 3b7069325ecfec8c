// Elementwise operations and sums used by several layers.

__global__ void axpy(const int n, const Dtype alpha, const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) y[i] += alpha * x[i];
}

__global__ void axpby(const int n, const Dtype alpha, const Dtype *x, const Dtype beta, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = beta == 0 ? alpha * x[i] : alpha * x[i] + beta * y[i];
}

__global__ void scale(const int n, const Dtype alpha, const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = alpha * x[i];
}

__global__ void fill(const int n, const Dtype value, Dtype *y) { GRID_STRIDE(i, n) y[i] = value; }

__global__ void add(const int n, const Dtype *a, const Dtype *b, Dtype *y) { GRID_STRIDE(i, n) y[i] = a[i] + b[i]; }

__global__ void sub(const int n, const Dtype *a, const Dtype *b, Dtype *y) { GRID_STRIDE(i, n) y[i] = a[i] - b[i]; }

__global__ void mul(const int n, const Dtype *a, const Dtype *b, Dtype *y) { GRID_STRIDE(i, n) y[i] = a[i] * b[i]; }

// The first of two steps of a sum: each block adds its share of x (kind 0), |x| (1) or x y (2).
__global__ void partial_sums(const int n, const int kind, const Dtype *x, const Dtype *y, Dtype *partial) {
  Dtype sum = 0;
  GRID_STRIDE(i, n) sum += kind == 0 ? x[i] : kind == 1 ? (Dtype)fabs(x[i]) : x[i] * y[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// The second step, in one block: out = alpha * sum.
__global__ void total(const int n, const Dtype alpha, const Dtype *partial, Dtype *out) {
  Dtype sum = 0;
  BLOCK_STRIDE(i, n) sum += partial[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *out = alpha * sum;
}
