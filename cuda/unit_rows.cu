// Scales the rows of w to length 1; one block for each row.
__global__ void normalize(const int width, const Dtype eps, Dtype *w) {
  Dtype *row = w + (long long)blockIdx.x * width;
  Dtype squares = 0;
  BLOCK_STRIDE(k, width) squares += row[k] * row[k];
  const Dtype length = sqrt(block_sum(squares) + eps);
  BLOCK_STRIDE(k, width) row[k] /= length;
}
