// Operations of all recurrent layers between their matrix products. N sequences, H elements of state, G of gates.

// z (T, N, G) += b (G) + fixed (N, G), the product of the static input; fixed may be null.
__global__ void add_terms(const int n, const int gates, const int per_step, const Dtype *b, const Dtype *fixed, Dtype *z) {
  GRID_STRIDE(i, n) z[i] += b[i % gates] + (fixed ? fixed[i % per_step] : Dtype(0));
}

// y = cont h: 0 where a sequence begins.
__global__ void mask(const int n, const int size, const Dtype *cont, const Dtype *h, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = cont[i / size] * h[i];
}

// The sum over steps: (T, n) -> (n).
__global__ void sum_steps(const int n, const int steps, const Dtype *z, Dtype *sums) {
  GRID_STRIDE(i, n) {
    Dtype sum = 0;
    for (int t = 0; t < steps; t++) sum += z[t * n + i];
    sums[i] = sum;
  }
}
