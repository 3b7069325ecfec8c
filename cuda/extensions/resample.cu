// layers/shared/resampling.py: pictures of another size, with the weights of rows and columns in tables: for each new place
// the first old one, and the weights of `taps` places from there on.

// The picture of a sample's `channels`, which are those from `start` on of `of` in memory.
__device__ __forceinline__ long long plane_of(int plane, int channels, int of, int start) {
  return (long long)(plane / channels) * of + start + plane % channels;
}

__global__ void resample(const int n, const int channels, const int of_x, const int start_x, const int of_y,
                         const int start_y, const int height, const int out_h, const int taps_h, const Dtype *first_h,
                         const Dtype *weight_h, const int width, const int out_w, const int taps_w, const Dtype *first_w,
                         const Dtype *weight_w, const bool unknown, const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) {
    const int w = i % out_w, h = i / out_w % out_h, plane = i / out_w / out_h;
    const Dtype *picture = x + plane_of(plane, channels, of_x, start_x) * height * width;
    const int row = (int)first_h[h], column = (int)first_w[w];
    Dtype sum = 0, known = 0, lost = 0;
    for (int k = 0; k < taps_h; k++) {
      const Dtype of_row = weight_h[h * taps_h + k];
      if (of_row == 0) continue;
      for (int l = 0; l < taps_w; l++) {
        const Dtype weight = of_row * weight_w[w * taps_w + l];
        if (weight == 0) continue;
        const Dtype value = picture[(row + k) * width + column + l];
        if (unknown && isnan(value)) {
          lost += weight;
        } else {
          sum += weight * value;
          known += weight;
        }
      }
    }
    const long long at = plane_of(plane, channels, of_y, start_y) * out_h * out_w + h * out_w + w;
    y[at] = !unknown ? sum : lost / known > Dtype(0.5) ? Dtype(nan("")) : sum / known;
  }
}
