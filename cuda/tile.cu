// Tile: y = (outer, tiles, inner), x = (outer, inner).

__global__ void repeat(const int n, const int inner, const int tiles, const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = x[i / (tiles * inner) * inner + i % inner];
}

__global__ void add_up(const int n, const int inner, const int tiles, const Dtype *dy, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const Dtype *first = dy + i / inner * tiles * inner + i % inner;
    Dtype sum = 0;
    for (int tile = 0; tile < tiles; tile++) sum += first[tile * inner];
    dx[i] = sum;
  }
}
