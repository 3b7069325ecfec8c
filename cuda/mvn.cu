// MVN: one block for each row, which has one mean.

__global__ void forward(const int length, const int with_variance, const Dtype eps, const Dtype *x, Dtype *y,
                        Dtype *deviation) {
  const Dtype *row = x + (long long)blockIdx.x * length;
  Dtype *out = y + (long long)blockIdx.x * length;
  Dtype sum = 0, squares = 0;
  BLOCK_STRIDE(i, length) sum += row[i];
  const Dtype mean = block_sum(sum) / length;
  BLOCK_STRIDE(i, length) squares += (row[i] - mean) * (row[i] - mean);
  const Dtype by = with_variance ? sqrt(block_sum(squares) / length) + eps : Dtype(1);
  BLOCK_STRIDE(i, length) out[i] = (row[i] - mean) / by;
  if (threadIdx.x == 0) deviation[blockIdx.x] = by;
}

__global__ void backward(const int length, const int with_variance, const Dtype *y, const Dtype *dy, const Dtype *deviation,
                         Dtype *dx) {
  const long long first = (long long)blockIdx.x * length;
  Dtype sum = 0, products = 0;
  BLOCK_STRIDE(i, length) {
    sum += dy[first + i];
    products += dy[first + i] * y[first + i];
  }
  const Dtype mean = block_sum(sum) / length;
  const Dtype slope = with_variance ? block_sum(products) / length : Dtype(0);
  BLOCK_STRIDE(i, length)
    dx[first + i] = (dy[first + i] - mean - slope * y[first + i]) / deviation[blockIdx.x];
}
