// A window that slides over up to three spatial axes, as `device_window` in minicaffe.cuda.tables writes it to device memory.
// With fewer axes the first ones have length 1.

struct Window {
  int in[3], out[3], kernel[3], stride[3], pad[3], dilation[3];

  __device__ int in_count() const { return in[0] * in[1] * in[2]; }
  __device__ int out_count() const { return out[0] * out[1] * out[2]; }
  __device__ int kernel_count() const { return kernel[0] * kernel[1] * kernel[2]; }

  // The place in the input under element k of the kernel when the window is output t; -1 in the padding.
  __device__ int input(int t, int k) const {
    int place = 0;
    for (int a = 0, t_inner = out_count(), k_inner = kernel_count(); a < 3; a++) {
      t_inner /= out[a];
      k_inner /= kernel[a];
      const int x = t / t_inner % out[a] * stride[a] + k / k_inner % kernel[a] * dilation[a] - pad[a];
      if (x < 0 || x >= in[a]) return -1;
      place = place * in[a] + x;
    }
    return place;
  }

  // The reverse: the output whose element k of the kernel lies on place x of the input; -1 where there is none.
  __device__ int output(int x, int k) const {
    int place = 0;
    for (int a = 0, x_inner = in_count(), k_inner = kernel_count(); a < 3; a++) {
      x_inner /= in[a];
      k_inner /= kernel[a];
      const int start = x / x_inner % in[a] + pad[a] - k / k_inner % kernel[a] * dilation[a];
      const int t = start / stride[a];
      if (start < 0 || start % stride[a] || t >= out[a]) return -1;
      place = place * out[a] + t;
    }
    return place;
  }
};
