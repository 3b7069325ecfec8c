// ROIWarping: one thread for each output in forward, for each input in backward; one block for each region's corners.

// Where the bins of a region from `low` to `high` of the image begin on an axis of x.
struct Axis {
  Dtype start, step;
  int size, bins;
  bool has_length;

  __device__ Axis(Dtype low, Dtype high, int bins, int size, Dtype scale) : size(size), bins(bins) {
    start = round(low * scale);
    const Dtype length = round(high * scale) - start;
    has_length = length > 0;
    step = (has_length ? length : Dtype(0)) / bins;
  }

  // The place before bin i and the weight of the next one; `slopes`: whether the value changes with the bin.
  __device__ bool at(int i, int &place, Dtype &weight, bool &slopes) const {
    const Dtype exact = start + i * step;
    if (!(exact >= Dtype(-0.5) && exact <= size - Dtype(0.5))) return false;
    const Dtype inside = min(max(exact, Dtype(0)), Dtype(size - 1));
    place = (int)inside;
    weight = inside - place;
    slopes = inside == exact && place < size - 1;
    return true;
  }

  // The weight of place p of x in bin i.
  __device__ Dtype weight(int i, int p) const {
    int place;
    Dtype next;
    bool slopes;
    if (!at(i, place, next, slopes)) return 0;
    return p == place ? 1 - next : p == place + 1 ? next : Dtype(0);
  }

  // The share of bin i in the motion of the second corner.
  __device__ Dtype part(int i) const { return has_length ? Dtype(i) / bins : Dtype(0); }
};

// The value in bin (i, j), and how it changes along both axes.
struct Value {
  Dtype value, down, across;

  __device__ Value(const Axis &rows, const Axis &columns, int i, int j, const Dtype *picture) : value(0), down(0), across(0) {
    int h, w;
    Dtype low, right;
    bool slopes_down, slopes_across;
    if (!rows.at(i, h, low, slopes_down) || !columns.at(j, w, right, slopes_across)) return;
    const Dtype *above = picture + h * columns.size, *below = picture + min(h + 1, rows.size - 1) * columns.size;
    const int next = min(w + 1, columns.size - 1);
    const Dtype top = (1 - right) * above[w] + right * above[next], bottom = (1 - right) * below[w] + right * below[next];
    value = (1 - low) * top + low * bottom;
    if (slopes_down) down = bottom - top;
    if (slopes_across) across = (1 - low) * (above[next] - above[w]) + low * (below[next] - below[w]);
  }
};

__global__ void forward(const int n, const int samples, const int channels, const int height, const int width,
                        const int bins_h, const int bins_w, const Dtype scale, const Dtype *x, const Dtype *rois, Dtype *y) {
  GRID_STRIDE(i, n) {
    const int c = i / bins_w / bins_h % channels;
    const Dtype *roi = rois + i / bins_w / bins_h / channels * 5;
    const int sample = (int)roi[0];
    const Axis rows(roi[2], roi[4], bins_h, height, scale), columns(roi[1], roi[3], bins_w, width, scale);
    const bool exists = sample >= 0 && sample < samples;
    const Dtype *picture = x + ((long long)sample * channels + c) * height * width;
    y[i] = exists ? Value(rows, columns, i / bins_w % bins_h, i % bins_w, picture).value : Dtype(0);
  }
}

__global__ void backward(const int n, const int regions, const int samples, const int channels, const int height,
                         const int width, const int bins_h, const int bins_w, const Dtype scale, const Dtype *rois,
                         const Dtype *dy, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const int w = i % width, h = i / width % height, c = i / width / height % channels, sample = i / width / height / channels;
    Dtype sum = 0;
    for (int r = 0; r < regions; r++) {
      const Dtype *roi = rois + r * 5;
      if ((int)roi[0] != sample) continue;
      const Axis rows(roi[2], roi[4], bins_h, height, scale), columns(roi[1], roi[3], bins_w, width, scale);
      for (int row = 0; row < bins_h; row++) {
        const Dtype of_row = rows.weight(row, h);
        if (of_row == 0) continue;
        const Dtype *line = dy + ((long long)(r * channels + c) * bins_h + row) * bins_w;
        for (int column = 0; column < bins_w; column++) sum += of_row * columns.weight(column, w) * line[column];
      }
    }
    dx[i] = sum;
  }
}

__global__ void corners(const int samples, const int channels, const int height, const int width, const int bins_h,
                        const int bins_w, const Dtype scale, const Dtype *x, const Dtype *rois, const Dtype *dy,
                        Dtype *drois) {
  const Dtype *roi = rois + blockIdx.x * 5;
  const int sample = (int)roi[0], count = channels * bins_h * bins_w;
  const Axis rows(roi[2], roi[4], bins_h, height, scale), columns(roi[1], roi[3], bins_w, width, scale);
  Dtype sums[4] = {0, 0, 0, 0};  // of x1, y1, x2, y2
  if (sample >= 0 && sample < samples)
    BLOCK_STRIDE(k, count) {
      const int i = k / bins_w % bins_h, j = k % bins_w;
      const Dtype *picture = x + ((long long)sample * channels + k / bins_w / bins_h) * height * width;
      const Value at(rows, columns, i, j, picture);
      const Dtype slope = dy[(long long)blockIdx.x * count + k], across = slope * at.across, down = slope * at.down;
      sums[0] += across * (1 - columns.part(j));
      sums[1] += down * (1 - rows.part(i));
      sums[2] += across * columns.part(j);
      sums[3] += down * rows.part(i);
    }
  for (int k = 0; k < 4; k++) {
    const Dtype sum = block_sum(sums[k]);
    if (threadIdx.x == 0) drois[blockIdx.x * 5 + 1 + k] = scale * sum;
  }
  if (threadIdx.x == 0) drois[blockIdx.x * 5] = 0;
}
