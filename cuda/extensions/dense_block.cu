// DenseBlock: kernels of 3 x 3 numbers turned by 180 degrees, and sums over channels.
__device__ __forceinline__ int turned(const int i) { return i / 9 * 9 + 8 - i % 9; }

__global__ void turn(const int n, const Dtype *w, Dtype *y) { GRID_STRIDE(i, n) y[i] = w[turned(i)]; }

__global__ void add_turned(const int n, const Dtype *dw, Dtype *sums) { GRID_STRIDE(i, n) sums[i] += dw[turned(i)]; }

// Adds x (N, own) to the first `own` numbers of each of the N rows of sums (N, whole).
__global__ void add_channels(const int n, const int own, const int whole, const Dtype *x, Dtype *sums) {
  GRID_STRIDE(i, n) sums[(long long)(i / own) * whole + i % own] += x[i];
}
