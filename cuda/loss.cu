// Kernels shared by losses.

// sums = (sum of terms, number of counted terms, divisor); out = sum / divisor.
__global__ void finish(const int n, const Dtype fixed, Dtype *sums, Dtype *out) {
  GRID_STRIDE(i, n) {
    sums[2] = fixed == 0 ? max(sums[1], Dtype(1)) : fixed;
    out[i] = sums[0] / sums[2];
  }
}

// Like finish, but from the terms, in one block.
__global__ void sum_and_finish(const int n, const Dtype fixed, const Dtype *terms, const Dtype *counted, Dtype *sums,
                               Dtype *out) {
  Dtype sum = 0, count = 0;
  BLOCK_STRIDE(i, n) {
    sum += terms[i];
    if (fixed == 0) count += counted[i];
  }
  sum = block_sum(sum);
  count = block_sum(count);
  if (threadIdx.x) return;
  sums[2] = fixed == 0 ? max(count, Dtype(1)) : fixed;
  *out = sum / sums[2];
}

// y = x * factor * weight / divisor; divisor may be null.
__global__ void scaled(const int n, const Dtype *weight, const Dtype *divisor, const Dtype factor, const Dtype *x, Dtype *y) {
  const Dtype scale = divisor ? factor * *weight / *divisor : factor * *weight;
  GRID_STRIDE(i, n) y[i] = scale * x[i];
}
