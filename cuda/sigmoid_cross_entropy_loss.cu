// Binary cross-entropy of each element. A rule gives the weight of target t of element i: 0 if it is ignored, else 1; with
// `shares`, of each sample of `size` elements the weights of targets 1 and 0, that of t, and 0 for another t.

__device__ __forceinline__ Dtype weight_of(Dtype t, int i, bool may_ignore, int ignored, const Dtype *shares, int size) {
  if (may_ignore && (int)t == ignored) return 0;
  if (!shares) return 1;
  return t == 1 ? shares[2 * (i / size)] : t == 0 ? shares[2 * (i / size) + 1] : Dtype(0);
}

// The weights of targets 1 and 0 of a sample, each the share of the others. A block computes those of a sample.
__global__ void balance(const int size, const Dtype negative_weight, const Dtype *target, Dtype *shares) {
  const Dtype *own = target + (long long)blockIdx.x * size;
  int ones = 0, zeros = 0;
  BLOCK_STRIDE(i, size) {
    ones += own[i] == 1;
    zeros += own[i] == 0;
  }
  ones = block_sum(ones);
  zeros = block_sum(zeros);
  if (threadIdx.x) return;
  const Dtype both = max(Dtype(ones) + Dtype(zeros), Dtype(1));
  shares[2 * blockIdx.x] = zeros / both;
  shares[2 * blockIdx.x + 1] = ones / both * negative_weight;
}

__global__ void losses(const int n, const Dtype *x, const Dtype *target, const bool may_ignore, const int ignored,
                       const Dtype *shares, const int size, Dtype *loss, Dtype *counted) {
  GRID_STRIDE(i, n) {
    const Dtype t = target[i], weight = weight_of(t, i, may_ignore, ignored, shares, size);
    counted[i] = shares ? t == 0 || t == 1 : weight != 0;
    loss[i] = weight == 0 ? Dtype(0) : weight * (max(x[i], Dtype(0)) - x[i] * t + log1p(exp(-fabs(x[i]))));
  }
}

__global__ void gradient(const int n, const Dtype *x, const Dtype *target, const bool may_ignore, const int ignored,
                         const Dtype *shares, const int size, const Dtype *weight, const Dtype *divisor, Dtype *dx) {
  const Dtype scale = *weight / *divisor;
  GRID_STRIDE(i, n) {
    const Dtype sigmoid = Dtype(0.5) * tanh(Dtype(0.5) * x[i]) + Dtype(0.5), t = target[i];
    const Dtype own = weight_of(t, i, may_ignore, ignored, shares, size);
    dx[i] = own == 0 ? Dtype(0) : own * scale * (sigmoid - t);
  }
}
