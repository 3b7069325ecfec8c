// y = max(x, 0) + alpha exp(gamma) (exp(beta min(x, 0)) - 1); x is (outer, covered, inner), with one alpha, beta and gamma,
// which may be null, for each covered place.

__device__ __forceinline__ Dtype height(const Dtype *alpha, const Dtype *gamma, int c) {
  return gamma ? alpha[c] * exp(gamma[c]) : alpha[c];
}

__global__ void forward(const int n, const int covered, const int inner, const Dtype *alpha, const Dtype *beta,
                        const Dtype *gamma, const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) {
    const int c = i / inner % covered;
    y[i] = x[i] > 0 ? x[i] : height(alpha, gamma, c) * expm1(beta[c] * x[i]);
  }
}

__global__ void backward(const int n, const int covered, const int inner, const Dtype *alpha, const Dtype *beta,
                         const Dtype *gamma, const Dtype *x, const Dtype *dy, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const int c = i / inner % covered;
    dx[i] = x[i] > 0 ? dy[i] : dy[i] * height(alpha, gamma, c) * beta[c] * exp(beta[c] * x[i]);
  }
}

// What is summed to the gradient of alpha (index 0), beta or gamma.
__global__ void terms(const int n, const int covered, const int inner, const Dtype *alpha, const Dtype *beta,
                      const Dtype *gamma, const int index, const Dtype *x, const Dtype *dy, Dtype *out) {
  GRID_STRIDE(i, n) {
    const int c = i / inner % covered;
    const Dtype below = x[i] < 0 ? x[i] : Dtype(0), factor = gamma ? exp(gamma[c]) : Dtype(1);
    const Dtype of_beta = alpha[c] * below * exp(beta[c] * below), of_alpha = expm1(beta[c] * below);
    out[i] = dy[i] * factor * (index == 0 ? of_alpha : index == 1 ? of_beta : alpha[c] * of_alpha);
  }
}
