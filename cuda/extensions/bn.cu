// BN: the statistics that it keeps; all else is batch_norm.cu's.

// Shows mean and variance in the tops, which may be null.
__device__ void show(int c, Dtype mean, Dtype variance, Dtype *top_mean, Dtype *top_variance) {
  if (top_mean) top_mean[c] = mean;
  if (top_variance) top_variance[c] = variance;
}

// Adds the batch's statistics to the running ones, if there are any.
__global__ void remember(const int n, const Dtype momentum, const Dtype *mean, const Dtype *variance,
                         Dtype *running_mean, Dtype *running_variance, Dtype *top_mean, Dtype *top_variance) {
  GRID_STRIDE(c, n) {
    if (running_mean) {
      running_mean[c] += (1 - momentum) * (mean[c] - running_mean[c]);
      running_variance[c] += (1 - momentum) * (variance[c] - running_variance[c]);
    }
    show(c, mean[c], variance[c], top_mean, top_variance);
  }
}

// The running statistics; without any, those that change nothing.
__global__ void take(const int n, const Dtype eps, const Dtype *running_mean, const Dtype *running_variance, Dtype *mean,
                     Dtype *variance, Dtype *deviation, Dtype *top_mean, Dtype *top_variance) {
  GRID_STRIDE(c, n) {
    mean[c] = running_mean ? running_mean[c] : Dtype(0);
    variance[c] = running_variance ? running_variance[c] : Dtype(1);
    deviation[c] = running_variance ? sqrt(variance[c] + eps) : Dtype(1);
    show(c, mean[c], variance[c], top_mean, top_variance);
  }
}
