// ExpMax over (outer, channels, inner): one thread for each of n = outer * inner places.

__global__ void forward(const int n, const int channels, const int inner, const Dtype scale, const Dtype factor,
                        const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) {
    const long long start = (long long)(i / inner) * channels * inner + i % inner;
    Dtype most = x[start];
    for (int k = 1; k < channels; k++) most = max(most, x[start + (long long)k * inner]);
    for (int k = 0; k < channels; k++) {
      const long long at = start + (long long)k * inner;
      y[at] = factor * exp(scale * (x[at] - most));
    }
  }
}
