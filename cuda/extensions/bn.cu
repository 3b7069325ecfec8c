// BN: sums over channels are batch_norm.cu's.
#include "ranks.cuh"

// One thread for each channel: the batch's statistics, added to the running ones if there are any.
__global__ void statistics(const int n, const int parts, const int count, const int places, const Dtype eps,
                           const Dtype momentum, const Dtype *x, const Dtype *partial, Dtype *mean, Dtype *variance,
                           Dtype *deviation, Dtype *running_mean, Dtype *running_variance) {
  GRID_STRIDE(c, n) {
    Dtype sum = 0, squares = 0;
    for (int p = 0; p < parts; p++) {
      sum += partial[c * parts + p];
      squares += partial[(n + c) * parts + p];
    }
    const Dtype shifted = sum / count;
    mean[c] = x[(long long)c * places] + shifted;
    variance[c] = max(squares / count - shifted * shifted, Dtype(0));
    deviation[c] = sqrt(variance[c] + eps);
    if (running_mean) {
      running_mean[c] += (1 - momentum) * (mean[c] - running_mean[c]);
      running_variance[c] += (1 - momentum) * (variance[c] - running_variance[c]);
    }
  }
}

// As `statistics`, of all ranks' batches.
__global__ void statistics_of_ranks(const int n, const int ranks, const Dtype eps, const Dtype momentum,
                                    const double *rows, Dtype *mean, Dtype *variance, Dtype *deviation,
                                    Dtype *running_mean, Dtype *running_variance) {
  GRID_STRIDE(c, n) {
    const Merged all(c, n, ranks, rows);
    mean[c] = all.mean;
    variance[c] = all.variance;
    deviation[c] = sqrt(variance[c] + eps);
    if (running_mean) {
      running_mean[c] += (1 - momentum) * (mean[c] - running_mean[c]);
      running_variance[c] += (1 - momentum) * (variance[c] - running_variance[c]);
    }
  }
}

// The running statistics; either pointer may be null.
__global__ void take(const int n, const Dtype eps, const Dtype *running_mean, const Dtype *running_variance, Dtype *mean,
                     Dtype *variance, Dtype *deviation) {
  GRID_STRIDE(c, n) {
    mean[c] = running_mean ? running_mean[c] : Dtype(0);
    variance[c] = running_variance ? running_variance[c] : Dtype(1);
    deviation[c] = running_variance ? sqrt(variance[c] + eps) : Dtype(1);
  }
}

__global__ void forward(const int n, const int channels, const int places, const Dtype *x, const Dtype *mean,
                        const Dtype *deviation, const Dtype *scale, const Dtype *shift, Dtype *normalized, Dtype *y) {
  GRID_STRIDE(i, n) {
    const int c = i / places % channels;
    const Dtype value = (x[i] - mean[c]) / deviation[c];
    normalized[i] = value;
    y[i] = scale[c] * value + shift[c];
  }
}

__global__ void copy(const int n, const Dtype *x, Dtype *y) { GRID_STRIDE(i, n) y[i] = x[i]; }

// means[c] = E[dy], means[n + c] = E[dy y]
__global__ void parameter_gradients(const int n, const int count, const Dtype *means, Dtype *dscale, Dtype *dshift) {
  GRID_STRIDE(c, n) {
    if (dscale) dscale[c] += count * means[n + c];
    if (dshift) dshift[c] += count * means[c];
  }
}

__global__ void backward(const int n, const int channels, const int places, const int of_batch, const Dtype *dy,
                         const Dtype *normalized, const Dtype *means, const Dtype *deviation, const Dtype *scale, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const int c = i / places % channels;
    const Dtype removed = of_batch ? means[c] + means[channels + c] * normalized[i] : Dtype(0);
    dx[i] = scale[c] / deviation[c] * (dy[i] - removed);
  }
}
