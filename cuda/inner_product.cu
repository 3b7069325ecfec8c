// The bias's gradient of InnerProduct, where it does not come with that of the weights.

// One thread for each output: the sum over samples. Reads are coalesced.
__global__ void bias_gradient(const int n, const int samples, const Dtype *dy, Dtype *db) {
  GRID_STRIDE(i, n) {
    Dtype sum = 0;
    for (int s = 0; s < samples; s++) sum += dy[(long long)s * n + i];
    db[i] += sum;
  }
}
