// The loss of each element and its derivative with respect to x; the weights may be null.
__global__ void losses(const int n, const Dtype sigma2, const Dtype *x, const Dtype *t, const Dtype *w_in, const Dtype *w_out,
                       Dtype *loss, Dtype *slope) {
  GRID_STRIDE(i, n) {
    const Dtype inside = w_in ? w_in[i] : Dtype(1), outside = w_out ? w_out[i] : Dtype(1);
    const Dtype d = inside * (x[i] - t[i]), size = fabs(d);
    const bool near = size < 1 / sigma2;
    loss[i] = outside * (near ? Dtype(0.5) * sigma2 * d * d : size - Dtype(0.5) / sigma2);
    slope[i] = inside * outside * (near ? sigma2 * d : d > 0 ? Dtype(1) : d < 0 ? Dtype(-1) : d);  // d is 0 or nan
  }
}

// The loss of each of n = outer * inner positions: the sum over the channels of loss (outer, channels, inner).
__global__ void positions(const int n, const int channels, const int inner, const Dtype *loss, Dtype *sums) {
  GRID_STRIDE(i, n) {
    Dtype sum = 0;
    for (int c = 0; c < channels; c++) sum += loss[(i / inner * channels + c) * inner + i % inner];
    sums[i] = sum;
  }
}
