// Reduction; operation is the number in the schema: 1 SUM, 2 ASUM, 3 SUMSQ, 4 MEAN.

// One block for each row of x.
__global__ void reduce(const int length, const int operation, const Dtype factor, const Dtype *x, Dtype *y) {
  const Dtype *row = x + (long long)blockIdx.x * length;
  Dtype sum = 0;
  BLOCK_STRIDE(k, length)
    sum += operation == 2 ? (Dtype)fabs(row[k]) : operation == 3 ? row[k] * row[k] : row[k];
  sum = block_sum(sum);
  if (threadIdx.x == 0) y[blockIdx.x] = factor * sum;
}

__global__ void spread(const int n, const int length, const int operation, const Dtype factor, const Dtype *x,
                       const Dtype *dy, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const Dtype slope = operation == 2 ? Dtype((x[i] > 0) - (x[i] < 0)) : operation == 3 ? 2 * x[i] : Dtype(1);
    dx[i] = factor * dy[i / length] * slope;
  }
}
