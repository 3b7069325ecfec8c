// ChannelScale, MaskPooling: x is (samples, channels, places), s (samples, places).
__global__ void scale(const int n, const int channels, const int places, const Dtype *s, const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = s[i / places / channels * places + i % places] * x[i];
}

__global__ void scale_all(const int n, const Dtype *s, const Dtype *x, Dtype *y) { GRID_STRIDE(i, n) y[i] = *s * x[i]; }

__global__ void scale_gradient(const int n, const int channels, const int places, const Dtype *x, const Dtype *dy,
                               Dtype *ds) {
  GRID_STRIDE(i, n) {
    const long long start = (long long)(i / places) * channels * places + i % places;
    Dtype sum = 0;
    for (int c = 0; c < channels; c++) sum += x[start + (long long)c * places] * dy[start + (long long)c * places];
    ds[i] = sum;
  }
}

// The running mean of |s|, below 0 before the first batch; one block.
__global__ void update(const int n, const Dtype low, const Dtype high, const Dtype *s, Dtype *mean) {
  Dtype sum = 0;
  BLOCK_STRIDE(i, n) sum += fabs(s[i]);
  sum = block_sum(sum) / n;
  if (threadIdx.x) return;
  const Dtype next = *mean < 0 ? sum : Dtype(0.99) * *mean + Dtype(0.01) * sum;
  *mean = max(low, min(high, next));
}
