// The bias of Convolution and Deconvolution.

__global__ void add_bias(const int n, const int channels, const int places, const Dtype *b, Dtype *y) {
  GRID_STRIDE(i, n) y[i] += b[i / places % channels];
}

// One block for each channel: the sum over samples and places.
__global__ void bias_gradient(const int samples, const int channels, const int places, const Dtype *dy, Dtype *db) {
  Dtype sum = 0;
  for (int i = threadIdx.x; i < samples * places; i += blockDim.x)
    sum += dy[((long long)(i / places) * channels + blockIdx.x) * places + i % places];
  sum = block_sum(sum);
  if (threadIdx.x == 0) db[blockIdx.x] += sum;
}
