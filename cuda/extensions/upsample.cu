// Upsample without a mask: `width` is that of y; scale divides it.

__global__ void repeat(const int n, const int scale, const int width, const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = x[(i / width / scale) * (width / scale) + i % width / scale];
}

__global__ void add_up(const int n, const int scale, const int width, const Dtype *dy, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const int small = width / scale;
    const Dtype *first = dy + (long long)(i / small) * scale * width + i % small * scale;
    Dtype sum = 0;
    for (int row = 0; row < scale; row++)
      for (int column = 0; column < scale; column++) sum += first[(long long)row * width + column];
    dx[i] = sum;
  }
}
