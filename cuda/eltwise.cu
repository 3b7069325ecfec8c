// Eltwise: the operations that ops.cu does not have.

__global__ void sum(const int n, const Dtype alpha, const Dtype *a, const Dtype beta, const Dtype *b, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = alpha * a[i] + beta * b[i];
}

// The sum of two bottoms followed by a ReLU in place.
__global__ void sum_relu(const int n, const Dtype alpha, const Dtype *a, const Dtype beta, const Dtype *b,
                         const Dtype slope, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = rectified(alpha * a[i] + beta * b[i], slope);
}

// The larger of bottoms 0 and 1, and its index; on a tie bottom 1.
__global__ void larger(const int n, const Dtype *a, const Dtype *b, Dtype *y, int *winner) {
  GRID_STRIDE(i, n) {
    winner[i] = a[i] > b[i] ? 0 : 1;
    y[i] = a[i] > b[i] ? a[i] : b[i];
  }
}

// Replace the maximum so far by bottom `index` where that is larger.
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
