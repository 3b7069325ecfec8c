// The bias of Embed: y is (count, width).

__global__ void add_bias(const int n, const int width, const Dtype *bias, Dtype *y) {
  GRID_STRIDE(i, n) y[i] += bias[i % width];
}

__global__ void bias_gradient(const int width, const int count, const Dtype *dy, Dtype *db) {
  GRID_STRIDE(k, width) {
    Dtype sum = 0;
    for (int j = 0; j < count; j++) sum += dy[(long long)j * width + k];
    db[k] += sum;
  }
}
