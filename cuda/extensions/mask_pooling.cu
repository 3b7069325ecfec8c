// MaskPooling: x is (N, channels, places), mask (N, places).

__global__ void masked(const int n, const int channels, const int places, const Dtype *x, const Dtype *mask, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = x[i] * mask[i / places / channels * places + i % places];
}

__global__ void mask_gradient(const int n, const int channels, const int places, const Dtype *x, const Dtype *dy,
                              Dtype *dmask) {
  GRID_STRIDE(i, n) {
    long long at = (long long)(i / places) * channels * places + i % places;
    Dtype sum = 0;
    for (int c = 0; c < channels; c++, at += places) sum += dy[at] * x[at];
    dmask[i] = sum;
  }
}
