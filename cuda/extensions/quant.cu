enum { SIGN, HARD_TANH, HWGQ, RELU };

__global__ void forward(const int n, const int kind, const Dtype slope, const int count, const Dtype *centers, const Dtype *x,
                        Dtype *y) {
  GRID_STRIDE(i, n) {
    const Dtype v = x[i];
    if (kind == SIGN) {
      y[i] = v >= 0 ? 1 : -1;
    } else if (kind == HARD_TANH) {
      y[i] = v < -1 ? Dtype(-1) : v > 1 ? Dtype(1) : v;
    } else if (kind == RELU) {
      y[i] = v > 0 ? v : slope * v;
    } else {
      int k = 0;  // the nearest center; halfway the lower one
      while (k + 1 < count && !(v <= (centers[k] + centers[k + 1]) / 2)) k++;
      y[i] = v <= 0 ? -slope : centers[k];
    }
  }
}

__global__ void backward(const int n, const bool relu, const Dtype slope, const Dtype limit, const Dtype *x, const Dtype *dy,
                         Dtype *dx) {
  GRID_STRIDE(i, n) {
    const Dtype factor = relu ? (x[i] > 0 ? Dtype(1) : slope) : Dtype(x[i] >= -limit);
    dx[i] = x[i] <= limit ? dy[i] * factor : Dtype(0);
  }
}
