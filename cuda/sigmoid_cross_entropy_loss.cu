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

__device__ __forceinline__ Dtype loss_of(Dtype x, Dtype t) {
  return max(x, Dtype(0)) - x * t + log1p(exp(-fabs(x)));
}

__device__ __forceinline__ Dtype slope_of(Dtype x, Dtype t) { return Dtype(0.5) * tanh(Dtype(0.5) * x) + Dtype(0.5) - t; }

__global__ void losses(const int n, const Dtype *x, const Dtype *target, const bool may_ignore, const int ignored,
                       const Dtype *shares, const int size, Dtype *loss, Dtype *counted) {
  GRID_STRIDE(i, n) {
    const Dtype t = target[i], weight = weight_of(t, i, may_ignore, ignored, shares, size);
    counted[i] = shares ? t == 0 || t == 1 : weight != 0;
    loss[i] = weight == 0 ? Dtype(0) : weight * loss_of(x[i], t);
  }
}

__global__ void gradient(const int n, const Dtype *x, const Dtype *target, const bool may_ignore, const int ignored,
                         const Dtype *shares, const int size, const Dtype *weight, const Dtype *divisor, Dtype *dx) {
  const Dtype scale = *weight / *divisor;
  GRID_STRIDE(i, n) {
    const Dtype own = weight_of(target[i], i, may_ignore, ignored, shares, size);
    dx[i] = own == 0 ? Dtype(0) : own * scale * slope_of(x[i], target[i]);
  }
}

// ---- with a weight for each element, divided by their sum; 0 if that is not above 0 ----

__global__ void weighted_losses(const int n, const Dtype *x, const Dtype *target, const Dtype *weights, Dtype *loss) {
  GRID_STRIDE(i, n) loss[i] = weights[i] == 0 ? Dtype(0) : weights[i] * loss_of(x[i], target[i]);
}

__global__ void by_total(const int n, const Dtype *total, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = *total > 0 ? y[i] / *total : Dtype(0);
}

__global__ void weighted_gradient(const int n, const Dtype *x, const Dtype *target, const Dtype *weights, const Dtype *total,
                                  const Dtype *loss_weight, Dtype *dx) {
  const Dtype scale = *total > 0 ? *loss_weight / *total : Dtype(0);
  GRID_STRIDE(i, n) dx[i] = weights[i] == 0 ? Dtype(0) : weights[i] * scale * slope_of(x[i], target[i]);
}
