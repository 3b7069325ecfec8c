// Elementwise operations and sums used by several layers.
#include "packs.cuh"

__global__ void axpy(const int n, const Dtype alpha, const Dtype *x, Dtype *y) {
  map(n, y, [=](Dtype x, Dtype y) { return y + alpha * x; }, x, y);
}

__global__ void axpby(const int n, const Dtype alpha, const Dtype *x, const Dtype beta, Dtype *y) {
  if (beta == 0)
    map(n, y, [=](Dtype x) { return alpha * x; }, x);
  else
    map(n, y, [=](Dtype x, Dtype y) { return alpha * x + beta * y; }, x, y);
}

__global__ void scale(const int n, const Dtype alpha, const Dtype *x, Dtype *y) {
  map(n, y, [=](Dtype x) { return alpha * x; }, x);
}

__global__ void fill(const int n, const Dtype value, Dtype *y) {
  map(n, y, [=] { return value; });
}

__global__ void add(const int n, const Dtype *a, const Dtype *b, Dtype *y) {
  map(n, y, [](Dtype a, Dtype b) { return a + b; }, a, b);
}

__global__ void sub(const int n, const Dtype *a, const Dtype *b, Dtype *y) {
  map(n, y, [](Dtype a, Dtype b) { return a - b; }, a, b);
}

__global__ void mul(const int n, const Dtype *a, const Dtype *b, Dtype *y) {
  map(n, y, [](Dtype a, Dtype b) { return a * b; }, a, b);
}

// nan stays.
__global__ void limit(const int n, const Dtype low, const Dtype high, Dtype *x) {
  map(n, x, [=](Dtype x) { return x < low ? low : x > high ? high : x; }, x);
}

// out = alpha * the sum of x (kind 0), |x| (1) or x y (2); each block adds its share, the last one adds the shares.
__global__ void sum(const int n, const int kind, const Dtype alpha, const Dtype *x, const Dtype *y, Dtype *partial,
                    unsigned *ticket, Dtype *out) {
  Dtype sum = kind == 0   ? share_of_sum(n, [](Dtype x) { return x; }, x)
              : kind == 1 ? share_of_sum(n, [](Dtype x) { return (Dtype)fabs(x); }, x)
                          : share_of_sum(n, [](Dtype x, Dtype y) { return x * y; }, x, y);
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
  if (!last_block(ticket, gridDim.x)) return;
  sum = 0;
  BLOCK_STRIDE(i, gridDim.x) sum += partial[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *out = alpha * sum;
}
