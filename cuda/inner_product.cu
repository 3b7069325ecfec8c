// The bias of InnerProduct.

__global__ void add_bias(const int n, const int outputs, const Dtype *b, Dtype *y) {
  GRID_STRIDE(i, n) y[i] += b[i % outputs];
}

// One thread for each output: the sum over samples. Reads are coalesced.
__global__ void bias_gradient(const int n, const int samples, const Dtype *dy, Dtype *db) {
  GRID_STRIDE(i, n) {
    Dtype sum = 0;
    for (int s = 0; s < samples; s++) sum += dy[s * n + i];
    db[i] += sum;
  }
}
