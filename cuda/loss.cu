// Kernels shared by losses.
#include "loss.cuh"
#include "packs.cuh"

// *out = the sum of n terms / *divisor, see finish_loss.
__global__ void total(const int n, const Dtype *terms, const Dtype *counted, const Dtype fixed, Dtype *partial,
                      unsigned *ticket, Dtype *divisor, Dtype *out) {
  Dtype sum = 0, count = 0;
  GRID_STRIDE(i, n) {
    sum += terms[i];
    if (fixed == 0) count += counted[i];
  }
  finish_loss(sum, count, fixed, partial, ticket, divisor, out);
}

// y = x * factor * weight / divisor; divisor may be null.
__global__ void scaled(const int n, const Dtype *weight, const Dtype *divisor, const Dtype factor, const Dtype *x, Dtype *y) {
  const Dtype scale = divisor ? factor * *weight / *divisor : factor * *weight;
  map(n, y, [=](Dtype x) { return scale * x; }, x);
}
