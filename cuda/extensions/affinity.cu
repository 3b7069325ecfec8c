// Affinity: one thread for each edge in forward, for each input in backward.

__global__ void forward(const int n, const int channels, const int height, const int width, const int offset,
                        const Dtype *x, Dtype *y) {
  const int places = height * width;
  GRID_STRIDE(i, n) {
    const int place = i % places, w = place % width, edge = i / places % 2;
    const Dtype *p = x + ((long long)(i / places / 2) * channels + offset) * places + place;
    const bool inside = w < width - 1 && place < places - width;
    y[i] = inside ? min(p[0], p[edge ? 1 : width]) : Dtype(0);
  }
}

__global__ void backward(const int n, const int channels, const int height, const int width, const int offset,
                         const Dtype *x, const Dtype *dy, Dtype *dx) {
  const int places = height * width;
  GRID_STRIDE(i, n) {
    const int place = i % places, w = place % width, h = place / width, c = i / places % channels;
    Dtype sum = 0;
    if (c == offset || channels == 2) {
      const long long sample = i / places / channels;
      const Dtype *p = x + (sample * channels + offset) * places + place, *down = dy + sample * 2 * places + place;
      const Dtype *across = down + places;
      const bool last_row = h == height - 1, last_column = w == width - 1;
      if (!last_row && !last_column) {
        if (p[0] < p[width]) sum += down[0];
        if (p[0] < p[1]) sum += across[0];
      }
      if (h > 0 && !last_column && !(p[-width] < p[0])) sum += down[-width];
      if (w > 0 && !last_row && !(p[-1] < p[0])) sum += across[-1];
    }
    dx[i] = c == offset ? sum : -sum;
  }
}
