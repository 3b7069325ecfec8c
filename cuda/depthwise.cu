// Depthwise convolution, over one to three spatial axes: each channel has a kernel of its own.
#include "window.cuh"

__global__ void forward(const int n, const int *shape, const int channels, const Dtype *x, const Dtype *weight, Dtype *y) {
  const Window &w = *(const Window *)shape;
  const int out = w.out_count(), kernel = w.kernel_count();
  GRID_STRIDE(i, n) {
    const int picture = i / out;
    Dtype sum = 0;
    for (int k = 0; k < kernel; k++) {
      const int place = w.input(i % out, k);
      if (place >= 0) sum += weight[picture % channels * kernel + k] * x[picture * w.in_count() + place];
    }
    y[i] = sum;
  }
}

__global__ void data_gradient(const int n, const int *shape, const int channels, const Dtype *dy, const Dtype *weight,
                              Dtype *dx) {
  const Window &w = *(const Window *)shape;
  const int in = w.in_count(), kernel = w.kernel_count();
  GRID_STRIDE(i, n) {
    const int picture = i / in;
    Dtype sum = 0;
    for (int k = 0; k < kernel; k++) {
      const int place = w.output(i % in, k);
      if (place >= 0) sum += weight[picture % channels * kernel + k] * dy[picture * w.out_count() + place];
    }
    dx[i] = sum;
  }
}

// One block for each weight: (channel, kernel place).
__global__ void weight_gradient(const int samples, const int *shape, const int channels, const Dtype *x, const Dtype *dy,
                                Dtype *dweight) {
  const Window &w = *(const Window *)shape;
  const int out = w.out_count(), kernel = w.kernel_count(), channel = blockIdx.x / kernel;
  Dtype sum = 0;
  for (int i = threadIdx.x; i < samples * out; i += blockDim.x) {
    const int picture = i / out * channels + channel, place = w.input(i % out, blockIdx.x % kernel);
    if (place >= 0) sum += x[picture * w.in_count() + place] * dy[picture * out + i % out];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) dweight[blockIdx.x] += sum;
}
