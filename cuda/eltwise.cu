// Eltwise: what minicaffe.cuda.ops does not have.

__global__ void sum(const int n, const Dtype alpha, const Dtype *a, const Dtype beta, const Dtype *b, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = alpha * a[i] + beta * b[i];
}

// The sum of two bottoms and, in place, its ReLU.
__global__ void sum_relu(const int n, const Dtype alpha, const Dtype *a, const Dtype beta, const Dtype *b,
                         const Dtype slope, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = rectified(alpha * a[i] + beta * b[i], slope);
}

// The larger of bottoms 0 and 1, and which it is; on a tie bottom 1.
__global__ void larger(const int n, const Dtype *a, const Dtype *b, Dtype *y, int *winner) {
  GRID_STRIDE(i, n) {
    winner[i] = a[i] > b[i] ? 0 : 1;
    y[i] = a[i] > b[i] ? a[i] : b[i];
  }
}

// Let bottom `index` win where it is larger than the largest so far.
__global__ void larger_than_so_far(const int n, const int index, const Dtype *x, Dtype *y, int *winner) {
  GRID_STRIDE(i, n) {
    if (x[i] > y[i]) {
      winner[i] = index;
      y[i] = x[i];
    }
  }
}

__global__ void to_winner(const int n, const int index, const int *winner, const Dtype *dy, Dtype *dx) {
  GRID_STRIDE(i, n) dx[i] = winner[i] == index ? dy[i] : Dtype(0);
}

__global__ void divided(const int n, const Dtype *dy, const Dtype *y, const Dtype *x, Dtype *dx) {
  GRID_STRIDE(i, n) dx[i] = dy[i] * (y[i] / x[i]);
}
