// Scale, Bias and PReLU: an operand that covers some axes of x = (outer, covered, inner).

// y = s x + b; s or b may be absent (null).
__global__ void scale_bias(const int n, const int covered, const int inner, const Dtype *x, const Dtype *s, const Dtype *b,
                           Dtype *y) {
  GRID_STRIDE(i, n) {
    const int c = i / inner % covered;
    const Dtype scaled = s ? x[i] * s[c] : x[i];
    y[i] = b ? scaled + b[c] : scaled;
  }
}

__global__ void prelu_forward(const int n, const int covered, const int inner, const Dtype *x, const Dtype *slope, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = x[i] > 0 ? x[i] : x[i] * slope[i / inner % covered];
}

__global__ void prelu_backward(const int n, const int covered, const int inner, const Dtype *x, const Dtype *slope,
                               const Dtype *dy, Dtype *dx) {
  GRID_STRIDE(i, n) dx[i] = x[i] > 0 ? dy[i] : dy[i] * slope[i / inner % covered];
}

// Sums over outer and inner of dy, dy x or dy min(x, 0); a block for each covered place and each part of its sum.
__global__ void partial_sums(const int covered, const int inner, const int length, const Dtype *dy, const Dtype *x,
                             const bool negative, Dtype *partial) {
  const int c = blockIdx.x, part = blockIdx.y, parts = gridDim.y;
  Dtype sum = 0;
  for (int j = part * blockDim.x + threadIdx.x; j < length; j += parts * blockDim.x) {
    const int i = (j / inner * covered + c) * inner + j % inner;
    const Dtype factor = !x ? Dtype(1) : negative && x[i] > 0 ? Dtype(0) : x[i];
    sum += dy[i] * factor;
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[c * parts + part] = sum;
}

__global__ void total(const int n, const int parts, const Dtype *partial, const bool add, Dtype *out) {
  GRID_STRIDE(c, n) {
    Dtype sum = add ? out[c] : Dtype(0);
    for (int part = 0; part < parts; part++) sum += partial[c * parts + part];
    out[c] = sum;
  }
}
