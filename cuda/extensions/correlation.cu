// Correlation, Correlation1D: one thread for each output in forward, for each input in backward. Place i of the top has
// the patch of `kernel` places from i stride + offset on; displacement d of `rows` is first + d step.

struct Axis {
  int size, out, offset, stride;

  // The place of the top whose patch has its place `tap` at p; -1 if there is none.
  __device__ int top(int p, int tap) const {
    const int from = p - offset - tap;
    return from >= 0 && from % stride == 0 && from / stride < out ? from / stride : -1;
  }
  __device__ bool inside(int p) const { return p >= 0 && p < size; }
};

__global__ void forward(const int n, const int channels, const int height, const int width, const int out_h, const int out_w,
                        const int offset_h, const int offset_w, const int rows, const int columns, const int first_h,
                        const int first_w, const int step, const int stride, const int kernel, const bool subtract,
                        const Dtype *a, const Dtype *b, Dtype *y) {
  const Axis of_h{height, out_h, offset_h, stride};
  const Axis of_w{width, out_w, offset_w, stride};
  const int places = height * width;
  GRID_STRIDE(i, n) {
    const int d = i / out_w / out_h % (rows * columns), sample = i / out_w / out_h / (rows * columns);
    const int far_h = first_h + d / columns * step, far_w = first_w + d % columns * step;
    const int h = i / out_w % out_h * stride + offset_h, w = i % out_w * stride + offset_w;
    const long long start = (long long)sample * channels * places;
    Dtype sum = 0;
    for (int p = h; p < h + kernel; p++)
      for (int q = w; q < w + kernel; q++) {
        const bool in_a = of_h.inside(p) && of_w.inside(q), in_b = of_h.inside(p + far_h) && of_w.inside(q + far_w);
        if (!(in_a && in_b) && !(subtract && (in_a || in_b))) continue;
        const Dtype *u = a + start + p * width + q, *v = b + start + (p + far_h) * width + q + far_w;
        for (int c = 0; c < channels; c++, u += places, v += places)
          sum += subtract ? fabs((in_a ? *u : Dtype(0)) - (in_b ? *v : Dtype(0))) : *u * *v;
      }
    y[i] = sum / (kernel * kernel * channels);
  }
}

// The gradient to a (side 0), or to b (side 1).
__global__ void backward(const int n, const int channels, const int height, const int width, const int out_h, const int out_w,
                         const int offset_h, const int offset_w, const int rows, const int columns, const int first_h,
                         const int first_w, const int step, const int stride, const int kernel, const bool subtract,
                         const int side, const Dtype *a, const Dtype *b, const Dtype *dy, Dtype *dx) {
  const Axis of_h{height, out_h, offset_h, stride};
  const Axis of_w{width, out_w, offset_w, stride};
  const Dtype *own = side ? b : a, *other = side ? a : b, sign = side ? -1 : 1;
  GRID_STRIDE(i, n) {
    const int w = i % width, h = i / width % height, plane = i / width / height;
    const Dtype *picture = other + (long long)plane * height * width;
    const long long maps = (long long)(plane / channels) * rows * columns;
    Dtype sum = 0;
    for (int d = 0; d < rows * columns; d++) {
      const int far_h = first_h + d / columns * step, far_w = first_w + d % columns * step;
      const int p = side ? h - far_h : h + far_h, q = side ? w - far_w : w + far_w;  // in the other bottom
      const bool in = of_h.inside(p) && of_w.inside(q);
      if (!in && !subtract) continue;
      const Dtype *slopes = dy + (maps + d) * out_h * out_w;
      Dtype slope = 0;
      for (int k = 0; k < kernel; k++) {
        const int row = of_h.top(side ? p : h, k);
        for (int l = 0; row >= 0 && l < kernel; l++) {
          const int column = of_w.top(side ? q : w, l);
          if (column >= 0) slope += slopes[row * out_w + column];
        }
      }
      const Dtype value = in ? picture[p * width + q] : Dtype(0);
      const bool above = side ? value >= own[i] : own[i] >= value;  // whether a >= b
      sum += slope * (subtract ? (above ? sign : -sign) : value);
    }
    dx[i] = sum / (kernel * kernel * channels);
  }
}
