// Weights of two values, -a and a, by the signs of learned ones; a is 1, or the mean of the absolute values of a row.

// One block for each row.
__global__ void binarize(const int size, const bool use_alpha, const Dtype *weights, Dtype *binary) {
  const long long start = (long long)blockIdx.x * size;
  Dtype alpha = 1;
  if (use_alpha) {
    Dtype sum = 0;
    BLOCK_STRIDE(i, size) sum += fabs(weights[start + i]);
    alpha = block_sum(sum) / size;
  }
  BLOCK_STRIDE(i, size) binary[start + i] = weights[start + i] >= 0 ? alpha : -alpha;
}
