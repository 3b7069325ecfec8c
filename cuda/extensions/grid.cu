// Grid: channel 0 of the top has the column of each place, channel 1 the row.

__global__ void forward(const int n, const int height, const int width, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = i / width / height % 2 ? i / width % height : i % width;
}
