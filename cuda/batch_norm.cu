// BatchNorm. Statistics are computed in one pass over the values: sums and sums of squares of x - shift, where shift is
// the channel's first value, so that a mean far from zero causes no cancellation.
// gridDim.y blocks share a channel; partial[0] contains their sums, partial[1] their sums of squares.
#include "ranks.cuh"

__global__ void partial_statistics(const int count, const int channels, const int places, const Dtype *x,
                                   Dtype *partial) {
  const int channel = blockIdx.x;
  const Dtype shift = x[(long long)channel * places];
  Dtype sum = 0, squares = 0;
  STRIDE(i, blockIdx.y * blockDim.x + threadIdx.x, count, blockDim.x * gridDim.y) {
    const Dtype value = x[((long long)(i / places) * channels + channel) * places + i % places] - shift;
    sum += value;
    squares += value * value;
  }
  sum = block_sum(sum);
  squares = block_sum(squares);
  if (threadIdx.x == 0) {
    partial[channel * gridDim.y + blockIdx.y] = sum;
    partial[(channels + channel) * gridDim.y + blockIdx.y] = squares;
  }
}

// One thread for each channel: mean and deviation of the batch, added to the layer's running statistics.
__global__ void statistics(const int n, const int parts, const int count, const int places, const Dtype eps,
                           const Dtype fraction, const Dtype *x, const Dtype *partial, Dtype *mean, Dtype *deviation,
                           Dtype *means, Dtype *variances, Dtype *weight) {
  GRID_STRIDE(c, n) {
    Dtype sum = 0, squares = 0;
    for (int p = 0; p < parts; p++) {
      sum += partial[c * parts + p];
      squares += partial[(n + c) * parts + p];
    }
    const Dtype shifted = sum / count, variance = max(squares / count - shifted * shifted, Dtype(0));
    mean[c] = x[(long long)c * places] + shifted;
    deviation[c] = sqrt(variance + eps);
    means[c] = fraction * means[c] + mean[c];
    variances[c] = fraction * variances[c] + variance * (count > 1 ? Dtype(count) / (count - 1) : Dtype(1));
    if (c == 0) weight[0] = fraction * weight[0] + 1;
  }
}

// This rank's row of `Merged`, and zeros in those of the others, which are then summed over the ranks.
__global__ void own_statistics(const int n, const int parts, const int count, const int places, const int rank,
                               const int ranks, const Dtype *x, const Dtype *partial, double *rows) {
  GRID_STRIDE(c, n) {
    double sum = 0, squares = 0;
    for (int p = 0; p < parts; p++) {
      sum += partial[c * parts + p];
      squares += partial[(n + c) * parts + p];
    }
    for (int r = 0; r < ranks; r++) {
      double *row = rows + r * (1 + 2 * (long long)n);
      const bool own = r == rank;
      if (c == 0) row[0] = own ? count : 0;
      row[1 + c] = own ? x[(long long)c * places] + sum / count : 0;
      row[1 + n + c] = own ? max(squares - sum * sum / count, 0.0) : 0;
    }
  }
}

// As `statistics`, of all ranks' batches.
__global__ void statistics_of_ranks(const int n, const int ranks, const Dtype eps, const Dtype fraction,
                                    const double *rows, Dtype *mean, Dtype *deviation, Dtype *means, Dtype *variances,
                                    Dtype *weight) {
  GRID_STRIDE(c, n) {
    const Merged all(c, n, ranks, rows);
    mean[c] = all.mean;
    deviation[c] = sqrt(Dtype(all.variance) + eps);
    means[c] = fraction * means[c] + mean[c];
    variances[c] = fraction * variances[c] + Dtype(all.variance * (all.count > 1 ? all.count / (all.count - 1) : 1));
    if (c == 0) weight[0] = fraction * weight[0] + 1;
  }
}

__global__ void global_statistics(const int n, const Dtype eps, const Dtype *means, const Dtype *variances,
                                  const Dtype *weight, Dtype *mean, Dtype *deviation) {
  const Dtype factor = weight[0] == 0 ? Dtype(0) : 1 / weight[0];
  GRID_STRIDE(c, n) {
    mean[c] = factor * means[c];
    deviation[c] = sqrt(factor * variances[c] + eps);
  }
}

// Layers that may follow in place, fused into this one (minicaffe.layers.fused): y = s x + b for each channel, and a
// ReLU.
struct Followers {
  const Dtype *s, *b;  // absent: null
  bool relu;
  Dtype slope;
  __device__ Dtype scaled(Dtype x, int c) const { return s ? fma(x, s[c], b ? b[c] : Dtype(0)) : x; }
  __device__ Dtype operator()(Dtype x, int c) const {
    const Dtype y = scaled(x, c);
    return relu ? rectified(y, slope) : y;
  }
  // The gradient before the ReLU, from the gradient after it.
  __device__ Dtype gradient(Dtype dy, Dtype x, int c) const { return relu && !(scaled(x, c) > 0) ? dy * slope : dy; }
};

// normalized: the layer's own copy of the normalized values, or null.
__global__ void normalize(const int n, const int channels, const int places, const Dtype *x, const Dtype *mean,
                          const Dtype *deviation, const Dtype *s, const Dtype *b, const bool relu, const Dtype slope,
                          Dtype *y, Dtype *normalized) {
  const Followers followers = {s, b, relu, slope};
  GRID_STRIDE(i, n) {
    const int c = i / places % channels;
    const Dtype value = (x[i] - mean[c]) / deviation[c];
    y[i] = followers(value, c);
    if (normalized) normalized[i] = value;
  }
}

__global__ void partial_gradients(const int count, const int channels, const int places, const Dtype *dy,
                                  const Dtype *normalized, const Dtype *s, const Dtype *b, const bool relu,
                                  const Dtype slope, Dtype *partial) {
  const Followers followers = {s, b, relu, slope};
  const int channel = blockIdx.x;
  Dtype sum = 0, products = 0;
  STRIDE(i, blockIdx.y * blockDim.x + threadIdx.x, count, blockDim.x * gridDim.y) {
    const long long at = ((long long)(i / places) * channels + channel) * places + i % places;
    const Dtype g = followers.gradient(dy[at], normalized[at], channel);
    sum += g;
    products += g * normalized[at];
  }
  sum = block_sum(sum);
  products = block_sum(products);
  if (threadIdx.x == 0) {
    partial[channel * gridDim.y + blockIdx.y] = sum;
    partial[(channels + channel) * gridDim.y + blockIdx.y] = products;
  }
}

// means[c] = E[g], means[channels + c] = E[g y]; the sums are the gradients of b and of s, to which they are added.
__global__ void mean_gradients(const int n, const int parts, const int count, const Dtype *partial, Dtype *db,
                               Dtype *ds, Dtype *means) {
  const int channels = n / 2;
  GRID_STRIDE(i, n) {
    Dtype sum = 0;
    for (int p = 0; p < parts; p++) sum += partial[i * parts + p];
    means[i] = sum / count;
    if (i < channels && db) db[i] += sum;
    if (i >= channels && ds) ds[i - channels] += sum;
  }
}

// As `mean_gradients`, in two steps: between them `sums`, the count and then n sums, is summed over the ranks.
__global__ void own_gradients(const int n, const int parts, const int count, const Dtype *partial, Dtype *db, Dtype *ds,
                              double *sums) {
  const int channels = n / 2;
  GRID_STRIDE(i, n) {
    Dtype sum = 0;
    for (int p = 0; p < parts; p++) sum += partial[i * parts + p];
    if (i == 0) sums[0] = count;
    sums[1 + i] = sum;
    if (i < channels && db) db[i] += sum;
    if (i >= channels && ds) ds[i - channels] += sum;
  }
}

__global__ void means_of_ranks(const int n, const double *sums, Dtype *means) {
  GRID_STRIDE(i, n) means[i] = sums[1 + i] / sums[0];
}

__global__ void backward(const int n, const int channels, const int places, const Dtype *dy, const Dtype *normalized,
                         const Dtype *s, const Dtype *b, const bool relu, const Dtype slope, const Dtype *means,
                         const Dtype *deviation, Dtype *dx) {
  const Followers followers = {s, b, relu, slope};
  GRID_STRIDE(i, n) {
    const int c = i / places % channels;
    const Dtype g = followers.gradient(dy[i], normalized[i], c);
    const Dtype centred = g - means[c] - means[channels + c] * normalized[i];
    dx[i] = (s ? s[c] * centred : centred) / deviation[c];
  }
}

// The diff that the followers, which work in place, leave in their blob.
__global__ void followers_gradient(const int n, const int channels, const int places, const Dtype *normalized,
                                   const Dtype *s, const Dtype *b, const bool relu, const Dtype slope, Dtype *dy) {
  const Followers followers = {s, b, relu, slope};
  GRID_STRIDE(i, n) {
    const int c = i / places % channels;
    const Dtype g = followers.gradient(dy[i], normalized[i], c);
    dy[i] = s ? s[c] * g : g;
  }
}

__global__ void backward_global(const int n, const int channels, const int places, const Dtype *dy,
                                const Dtype *deviation, Dtype *dx) {
  GRID_STRIDE(i, n) dx[i] = dy[i] / deviation[i / places % channels];
}

// Weights and bias of the convolution that is equal to a convolution followed by this layer and its Scale: n weights,
// `length` for each channel.
__global__ void fold(const int n, const int length, const Dtype *weights, const Dtype *bias, const Dtype *mean,
                     const Dtype *deviation, const Dtype *s, const Dtype *b, Dtype *folded, Dtype *folded_bias) {
  GRID_STRIDE(i, n) {
    const int c = i / length;
    const Dtype factor = (s ? s[c] : Dtype(1)) / deviation[c];
    folded[i] = weights[i] * factor;
    if (i % length == 0) folded_bias[c] = ((bias ? bias[c] : Dtype(0)) - mean[c]) * factor + (b ? b[c] : Dtype(0));
  }
}
