// ChannelNorm: x is (outer, channels, inner), y (outer, inner).

__global__ void forward(const int n, const int channels, const int inner, const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) {
    const Dtype *p = x + (long long)(i / inner) * channels * inner + i % inner;
    Dtype sum = 0;
    for (int k = 0; k < channels; k++, p += inner) sum += *p * *p;
    y[i] = sqrt(sum);
  }
}

__global__ void backward(const int n, const int channels, const int inner, const Dtype eps, const Dtype *x, const Dtype *y,
                         const Dtype *dy, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const int place = i / inner / channels * inner + i % inner;
    dx[i] = x[i] * (dy[place] / (y[place] + eps));
  }
}
