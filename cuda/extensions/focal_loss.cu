// plain is -log p of each position.

// *out = alpha times the sum of (1 - p)^gamma plain / *divisor; one block.
__global__ void loss(const int n, const Dtype gamma, const Dtype alpha, const Dtype *plain, const Dtype *divisor,
                     Dtype *out) {
  Dtype sum = 0;
  BLOCK_STRIDE(i, n) sum += pow(-expm1(-plain[i]), gamma) * plain[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *out = alpha * sum / *divisor;
}

// dx, the gradient of plain, becomes that of the focal loss; it is (outer, classes, inner).
__global__ void gradient(const int n, const int classes, const int inner, const Dtype gamma, const Dtype alpha,
                         const Dtype *plain, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const Dtype loss = plain[i / inner / classes * inner + i % inner], away = -expm1(-loss);
    const Dtype power = pow(gamma >= 1 ? away : max(away, Dtype(1e-20)), gamma - 1);
    dx[i] *= alpha * (pow(away, gamma) + gamma * power * exp(-loss) * loss);
  }
}
