// plain is -log p of each position.
#include "loss.cuh"

// *out = alpha times the sum of (1 - p)^gamma plain / *divisor, the divisor of the plain loss, which stays; see finish_loss.
__global__ void loss(const int n, const Dtype gamma, const Dtype alpha, const Dtype *plain, const Dtype fixed,
                     Dtype *partial, unsigned *ticket, Dtype *divisor, Dtype *out) {
  Dtype sum = 0;
  GRID_STRIDE(i, n) sum += pow(-expm1(-plain[i]), gamma) * plain[i];
  const Dtype count = blockIdx.x + threadIdx.x == 0 ? *divisor : Dtype(0);
  finish_loss(alpha * sum, count, fixed, partial, ticket, divisor, out);
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
