// Softmax over (outer, classes, inner): rows when inner is 1, columns otherwise.

// One block for each of n rows.
__global__ void rows(const int n, const int classes, const Dtype *x, Dtype *y) {
  STRIDE(row, blockIdx.x, n, gridDim.x) {
    const Dtype *in = x + (long long)row * classes;
    Dtype *out = y + (long long)row * classes;
    Dtype largest = -DTYPE_MAX;
    BLOCK_STRIDE(k, classes) largest = max(largest, in[k]);
    largest = block_max(largest);
    Dtype sum = 0;
    BLOCK_STRIDE(k, classes) {
      out[k] = exp(in[k] - largest);
      sum += out[k];
    }
    sum = block_sum(sum);
    BLOCK_STRIDE(k, classes) out[k] /= sum;
  }
}

__global__ void rows_backward(const int n, const int classes, const Dtype *y, const Dtype *dy, Dtype *dx) {
  STRIDE(row, blockIdx.x, n, gridDim.x) {
    const long long start = (long long)row * classes;
    Dtype dot = 0;
    BLOCK_STRIDE(k, classes) dot += y[start + k] * dy[start + k];
    dot = block_sum(dot);
    BLOCK_STRIDE(k, classes) dx[start + k] = y[start + k] * (dy[start + k] - dot);
  }
}

// One thread for each of n = outer * inner columns.
__global__ void columns(const int n, const int classes, const int inner, const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) {
    const long long start = (long long)(i / inner) * classes * inner + i % inner;
    Dtype largest = -DTYPE_MAX, sum = 0;
    for (int k = 0; k < classes; k++) largest = max(largest, x[start + k * inner]);
    for (int k = 0; k < classes; k++) {
      y[start + k * inner] = exp(x[start + k * inner] - largest);
      sum += y[start + k * inner];
    }
    for (int k = 0; k < classes; k++) y[start + k * inner] /= sum;
  }
}

__global__ void columns_backward(const int n, const int classes, const int inner, const Dtype *y, const Dtype *dy, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const long long start = (long long)(i / inner) * classes * inner + i % inner;
    Dtype dot = 0;
    for (int k = 0; k < classes; k++) dot += y[start + k * inner] * dy[start + k * inner];
    for (int k = 0; k < classes; k++) dx[start + k * inner] = y[start + k * inner] * (dy[start + k * inner] - dot);
  }
}
