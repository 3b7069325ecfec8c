#define TILE 16

// y[m, n], the distance of x_m and w_n; one thread for each, a block for a tile. Blocks of a row of tiles follow each other.
__global__ void distances(const int samples, const int vectors, const int width, const bool absolute, const Dtype *x,
                          const Dtype *w, Dtype *y) {
  __shared__ Dtype of_x[TILE][TILE + 1], of_w[TILE][TILE + 1];
  const int across = (vectors + TILE - 1) / TILE, first = blockIdx.x % across * TILE;
  const int m = blockIdx.x / across * TILE + threadIdx.y, n = first + threadIdx.x, row = first + threadIdx.y;  // row: of w
  Dtype sum = 0;
  for (int start = 0; start < width; start += TILE) {
    const int k = start + threadIdx.x;
    of_x[threadIdx.y][threadIdx.x] = m < samples && k < width ? x[(long long)m * width + k] : Dtype(0);
    of_w[threadIdx.y][threadIdx.x] = row < vectors && k < width ? w[(long long)row * width + k] : Dtype(0);
    __syncthreads();
    for (int j = 0; j < TILE; j++) {
      const Dtype d = of_x[threadIdx.y][j] - of_w[threadIdx.x][j];
      sum += absolute ? fabs(d) : d * d;
    }
    __syncthreads();
  }
  if (m < samples && n < vectors) y[(long long)m * vectors + n] = sum;
}

// out[r, k] += the sum over o of dy[r, o] times the derivative of the distance of a_r and b_o by a_r; with labels only
// over the o whose label is r.
__global__ void gradient(const int n, const int others, const int width, const int row_step, const int other_step,
                         const bool absolute, const Dtype *labels, const Dtype *a, const Dtype *b, const Dtype *dy,
                         Dtype *out) {
  GRID_STRIDE(i, n) {
    const int r = i / width, k = i % width;
    Dtype sum = 0;
    for (int o = 0; o < others; o++) {
      if (labels && (int)labels[o] != r) continue;
      const Dtype d = a[i] - b[(long long)o * width + k];
      sum += dy[(long long)r * row_step + (long long)o * other_step] * (absolute ? Dtype((d > 0) - (d < 0)) : 2 * d);
    }
    out[i] += sum;
  }
}
