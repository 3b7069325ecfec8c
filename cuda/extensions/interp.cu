// Interp: bilinear interpolation with aligned corners. height and width are the bottom's, of which crop_h and crop_w
// places from `begin` on are interpolated.

__device__ __forceinline__ Dtype step(int size, int new_size) {
  return new_size > 1 ? Dtype(size - 1) / (new_size - 1) : Dtype(0);
}

__global__ void forward(const int n, const int height, const int width, const int begin, const int crop_h, const int crop_w,
                        const int out_h, const int out_w, const Dtype *x, Dtype *y) {
  const Dtype step_h = step(crop_h, out_h), step_w = step(crop_w, out_w);
  GRID_STRIDE(i, n) {
    const Dtype at_h = i / out_w % out_h * step_h, at_w = i % out_w * step_w;
    const int h = min((int)at_h, crop_h - 1), w = min((int)at_w, crop_w - 1);
    const int down = h + 1 < crop_h ? width : 0, right = w + 1 < crop_w ? 1 : 0;
    const Dtype far_h = at_h - h, far_w = at_w - w;
    const Dtype *p = x + (long long)(i / out_w / out_h) * height * width + (begin + h) * width + begin + w;
    y[i] = (1 - far_h) * ((1 - far_w) * p[0] + far_w * p[right]) + far_h * ((1 - far_w) * p[down] + far_w * p[down + right]);
  }
}

// The range of new places whose weight for an old place may differ from 0.
struct Near {
  int first, last;
  __device__ Near(int place, Dtype step, int new_size) {
    first = step > 0 ? max((int)((place - 1) / step) - 1, 0) : 0;
    last = step > 0 ? min((int)((place + 1) / step) + 1, new_size - 1) : new_size - 1;
  }
};

__device__ __forceinline__ Dtype weight(int new_place, Dtype step, int place) {
  const Dtype distance = new_place * step - place;
  return max(Dtype(0), 1 - max(distance, -distance));
}

__global__ void backward(const int n, const int height, const int width, const int begin, const int crop_h, const int crop_w,
                         const int out_h, const int out_w, const Dtype *dy, Dtype *dx) {
  const Dtype step_h = step(crop_h, out_h), step_w = step(crop_w, out_w);
  GRID_STRIDE(i, n) {
    const int h = i / width % height - begin, w = i % width - begin;
    Dtype sum = 0;
    if (h >= 0 && h < crop_h && w >= 0 && w < crop_w) {
      const Near rows(h, step_h, out_h), columns(w, step_w, out_w);
      const Dtype *picture = dy + (long long)(i / width / height) * out_h * out_w;
      for (int a = rows.first; a <= rows.last; a++)
        for (int b = columns.first; b <= columns.last; b++)
          sum += weight(a, step_h, h) * weight(b, step_w, w) * picture[a * out_w + b];
    }
    dx[i] = sum;
  }
}
