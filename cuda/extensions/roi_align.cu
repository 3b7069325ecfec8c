// ROIAlign: one thread for each output in forward, for each input in backward.

// The points on one axis of x, of a region from `low` to `high` of the image that is divided into `bins`.
struct Axis {
  Dtype start, step, outside;  // outside: how far outside x a point counts
  int points, size;            // points for each place of the top; of 0 points all weights are 0
  bool on_corners;

  __device__ Axis(Dtype low, Dtype high, int bins, int size, Dtype scale, bool on_corners, Dtype pad_ratio, int points,
                  int end)
      : size(size), on_corners(on_corners) {
    const Dtype pad = pad_ratio ? (high - low + 1) * pad_ratio : Dtype(0), shift = on_corners ? Dtype(0.5) : Dtype(0);
    start = (low - pad) * scale - shift;
    const Dtype length = (high + pad + end) * scale - shift - start;
    step = (on_corners ? length : max(length, Dtype(1))) / Dtype(bins);
    outside = on_corners ? Dtype(0.5) : Dtype(1);
    this->points = on_corners ? length > 0 : points ? points : (int)min(ceil(step), Dtype(1000));
  }

  // Where point k of place i of the top is; whether it counts.
  __device__ bool at(int i, int k, Dtype &x) const {
    x = start + i * step + (on_corners ? Dtype(0) : (k + Dtype(0.5)) * step / points);
    const bool inside = x >= -outside && x <= size - 1 + outside;
    x = min(max(x, Dtype(0)), Dtype(size - 1));
    return inside;
  }

  // The weight of place p of x in place i of the top.
  __device__ Dtype weight(int i, int p) const {
    Dtype sum = 0, x;
    for (int k = 0; k < points; k++)
      if (at(i, k, x)) sum += max(1 - fabs(x - p), Dtype(0));
    return sum / max(points, 1);
  }
};

__global__ void forward(const int n, const int samples, const int channels, const int height, const int width,
                        const int bins_h, const int bins_w, const Dtype scale, const bool on_corners, const Dtype pad_ratio,
                        const int points, const int end, const Dtype *x, const Dtype *rois, Dtype *y) {
  const int grid_h = bins_h + on_corners, grid_w = bins_w + on_corners;
  GRID_STRIDE(i, n) {
    const int c = i / grid_w / grid_h % channels;
    const Dtype *roi = rois + i / grid_w / grid_h / channels * 5;
    const int sample = (int)roi[0];
    const Axis rows(roi[2], roi[4], bins_h, height, scale, on_corners, pad_ratio, points, end);
    const Axis columns(roi[1], roi[3], bins_w, width, scale, on_corners, pad_ratio, points, end);
    Dtype sum = 0, h, w;
    if (sample >= 0 && sample < samples) {
      const Dtype *picture = x + ((long long)sample * channels + c) * height * width;
      for (int k = 0; k < rows.points; k++) {
        if (!rows.at(i / grid_w % grid_h, k, h)) continue;
        const int top = min((int)h, height - 1), bottom = min(top + 1, height - 1);
        for (int l = 0; l < columns.points; l++) {
          if (!columns.at(i % grid_w, l, w)) continue;
          const int left = min((int)w, width - 1), right = min(left + 1, width - 1);
          const Dtype *above = picture + top * width, *below = picture + bottom * width;
          sum += (1 - (h - top)) * ((1 - (w - left)) * above[left] + (w - left) * above[right]) +
                 (h - top) * ((1 - (w - left)) * below[left] + (w - left) * below[right]);
        }
      }
    }
    y[i] = sum / max(rows.points * columns.points, 1);
  }
}

__global__ void backward(const int n, const int regions, const int channels, const int height, const int width,
                         const int bins_h, const int bins_w, const Dtype scale, const bool on_corners, const Dtype pad_ratio,
                         const int points, const int end, const Dtype *rois, const Dtype *dy, Dtype *dx) {
  const int grid_h = bins_h + on_corners, grid_w = bins_w + on_corners;
  GRID_STRIDE(i, n) {
    const int w = i % width, h = i / width % height, c = i / width / height % channels, sample = i / width / height / channels;
    Dtype sum = 0;
    for (int r = 0; r < regions; r++) {
      const Dtype *roi = rois + r * 5;
      if ((int)roi[0] != sample) continue;
      const Axis rows(roi[2], roi[4], bins_h, height, scale, on_corners, pad_ratio, points, end);
      const Axis columns(roi[1], roi[3], bins_w, width, scale, on_corners, pad_ratio, points, end);
      for (int row = 0; row < grid_h; row++) {
        const Dtype of_row = rows.weight(row, h);
        if (of_row == 0) continue;
        const Dtype *line = dy + ((r * channels + c) * grid_h + row) * grid_w;
        for (int column = 0; column < grid_w; column++) sum += of_row * columns.weight(column, w) * line[column];
      }
    }
    dx[i] = sum;
  }
}
