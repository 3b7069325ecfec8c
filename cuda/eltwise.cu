// Eltwise: the operations that ops.cu does not have.

#include "packs.cuh"

struct Sum {
  Dtype alpha, beta;
  const Dtype *a, *b;
  bool relu;
  Dtype slope;
  Dtype *y;

  template <int WIDTH>
  __device__ __forceinline__ void at(int i) const {
    const Pack<WIDTH> one = load<WIDTH>(a + i), two = load<WIDTH>(b + i);
    Pack<WIDTH> out;
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      const Dtype value = alpha * one.v[k] + beta * two.v[k];
      out.v[k] = relu ? rectified(value, slope) : value;
    }
    store(y + i, out);
  }
};

// The sum of two bottoms, perhaps followed by a ReLU in place.
__global__ void sum(const int n, const Dtype alpha, const Dtype *a, const Dtype beta, const Dtype *b, const bool relu,
                    const Dtype slope, Dtype *y) {
  in_packs(n, Sum{alpha, beta, a, b, relu, slope, y});
}

struct SumGradients {
  const Dtype *dy, *second, *y;
  bool relu;
  Dtype slope, alpha, beta;
  Dtype *through, *da, *db;

  template <int WIDTH>
  __device__ __forceinline__ void scale(Dtype factor, const Pack<WIDTH> &g, Dtype *target) const {
    Pack<WIDTH> out;
#pragma unroll
    for (int k = 0; k < WIDTH; k++) out.v[k] = factor * g.v[k];
    store(target, out);
  }

  template <int WIDTH>
  __device__ __forceinline__ void at(int i) const {
    Pack<WIDTH> g = load<WIDTH>(dy + i);
    if (second) {
      const Pack<WIDTH> more = load<WIDTH>(second + i);
#pragma unroll
      for (int k = 0; k < WIDTH; k++) g.v[k] += more.v[k];
    }
    if (relu) {
      const Pack<WIDTH> out = load<WIDTH>(y + i);
#pragma unroll
      for (int k = 0; k < WIDTH; k++) g.v[k] = out.v[k] > 0 ? g.v[k] : g.v[k] * slope;
    }
    if (through) store(through + i, g);
    if (da) scale(alpha, g, da + i);
    if (db) scale(beta, g, db + i);
  }
};

// The gradients of two bottoms, from that of the top, which is dy and, if it is not null, `second`; with a ReLU in place
// times its gradient, by the signs of y. through: gets the gradient of the sum; it, da and db may be null.
__global__ void sum_gradients(const int n, const Dtype *dy, const Dtype *second, const Dtype *y, const bool relu,
                              const Dtype slope, const Dtype alpha, const Dtype beta, Dtype *through, Dtype *da,
                              Dtype *db) {
  in_packs(n, SumGradients{dy, second, y, relu, slope, alpha, beta, through, da, db});
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
