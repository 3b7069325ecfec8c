// ROIPooling: one thread for each output in forward, for each input in backward.

// Bin `index` of `count` bins from low to high (inclusive) of the image, enlarged, clipped to `size` places.
struct Bin {
  int begin, end;
  __device__ Bin(int index, int count, Dtype low, Dtype high, Dtype scale, Dtype pad_ratio, int size) {
    const Dtype pad = pad_ratio ? (high - low + 1) * pad_ratio : Dtype(0);
    const Dtype start = round((low - pad) * scale), end_ = round((high + pad) * scale);
    const Dtype step = max(end_ - start + 1, Dtype(1)) / Dtype(count);
    begin = min(max((int)(floor(index * step) + start), 0), size);
    end = min(max((int)(ceil((index + 1) * step) + start), 0), size);
  }
};

__global__ void forward(const int n, const int samples, const int channels, const int height, const int width,
                        const int bins_h, const int bins_w, const Dtype scale, const Dtype pad_ratio, const Dtype *x,
                        const Dtype *rois, Dtype *y, int *places) {
  GRID_STRIDE(i, n) {
    const int c = i / bins_w / bins_h % channels;
    const Dtype *roi = rois + i / bins_w / bins_h / channels * 5;
    const int sample = (int)roi[0];
    int best = -1;
    Dtype value = 0;
    if (sample >= 0 && sample < samples) {
      const Dtype *picture = x + ((long long)sample * channels + c) * height * width;
      const Bin rows(i / bins_w % bins_h, bins_h, roi[2], roi[4], scale, pad_ratio, height);
      const Bin columns(i % bins_w, bins_w, roi[1], roi[3], scale, pad_ratio, width);
      for (int h = rows.begin; h < rows.end; h++)
        for (int w = columns.begin; w < columns.end; w++)
          if (best < 0 || picture[h * width + w] > value) {
            best = h * width + w;
            value = picture[best];
          }
    }
    y[i] = value;
    places[i] = best;
  }
}

__global__ void backward(const int n, const int channels, const int height, const int width, const int bins_h,
                         const int bins_w, const int regions, const Dtype *rois, const Dtype *dy, const int *places,
                         Dtype *dx) {
  GRID_STRIDE(i, n) {
    const int place = i % (height * width), c = i / (height * width) % channels, sample = i / (height * width) / channels;
    Dtype sum = 0;
    for (int r = 0; r < regions; r++) {
      if ((int)rois[r * 5] != sample) continue;
      const int first = (r * channels + c) * bins_h * bins_w;
      for (int b = first; b < first + bins_h * bins_w; b++)
        if (places[b] == place) sum += dy[b];
    }
    dx[i] = sum;
  }
}
