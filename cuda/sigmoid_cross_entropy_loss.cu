// Binary cross-entropy of each element.

__global__ void losses(const int n, const Dtype *x, const Dtype *target, const bool may_ignore, const int ignored,
                       Dtype *loss, Dtype *counted) {
  GRID_STRIDE(i, n) {
    const bool counts = !(may_ignore && (int)target[i] == ignored);
    counted[i] = counts;
    loss[i] = counts ? max(x[i], Dtype(0)) - x[i] * target[i] + log1p(exp(-fabs(x[i]))) : Dtype(0);
  }
}

__global__ void gradient(const int n, const Dtype *x, const Dtype *target, const bool may_ignore, const int ignored,
                         const Dtype *weight, const Dtype *divisor, Dtype *dx) {
  const Dtype scale = *weight / *divisor;
  GRID_STRIDE(i, n) {
    const Dtype sigmoid = Dtype(0.5) * tanh(Dtype(0.5) * x[i]) + Dtype(0.5);
    dx[i] = may_ignore && (int)target[i] == ignored ? Dtype(0) : scale * (sigmoid - target[i]);
  }
}
