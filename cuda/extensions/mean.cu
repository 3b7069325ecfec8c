// Mean: y = factor x + shift; each of `period` shifts is of `inner` places, and then they begin again.

__global__ void forward(const int n, const int period, const int inner, const Dtype factor, const Dtype *shift,
                        const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = factor * x[i] + shift[i / inner % period];
}
