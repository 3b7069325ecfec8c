// ROIPooling: one thread for each output in forward, for each input in backward. Pictures are volumes of one place along
// time.

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

// of_volumes: regions are (sample, first, last), and have all rows and columns; else (sample, x1, y1, x2, y2).
__global__ void forward(const int n, const int of_volumes, const int samples, const int channels, const int length,
                        const int height, const int width, const int bins_l, const int bins_h, const int bins_w,
                        const Dtype temporal_scale, const Dtype spatial_scale, const Dtype pad_ratio, const Dtype *x,
                        const Dtype *rois, Dtype *y, int *places) {
  GRID_STRIDE(i, n) {
    const int column = i % bins_w, row = i / bins_w % bins_h, plane = i / bins_w / bins_h % bins_l;
    const int c = i / bins_w / bins_h / bins_l % channels;
    const Dtype *roi = rois + i / bins_w / bins_h / bins_l / channels * (of_volumes ? 3 : 5);
    const int sample = (int)roi[0];
    int best = -1;
    Dtype value = 0;
    if (sample >= 0 && sample < samples) {
      const Dtype *volume = x + ((long long)sample * channels + c) * length * height * width;
      const Bin planes = of_volumes ? Bin(plane, bins_l, roi[1], roi[2], temporal_scale, 0, length) : Bin(0, 1, 0, 0, 1, 0, 1);
      const Bin rows = of_volumes ? Bin(row, bins_h, 0, height - 1, 1, 0, height)
                                  : Bin(row, bins_h, roi[2], roi[4], spatial_scale, pad_ratio, height);
      const Bin columns = of_volumes ? Bin(column, bins_w, 0, width - 1, 1, 0, width)
                                     : Bin(column, bins_w, roi[1], roi[3], spatial_scale, pad_ratio, width);
      for (int l = planes.begin; l < planes.end; l++)
        for (int h = rows.begin; h < rows.end; h++)
          for (int w = columns.begin; w < columns.end; w++) {
            const int place = (l * height + h) * width + w;
            if (best < 0 || volume[place] > value) {
              best = place;
              value = volume[best];
            }
          }
    }
    y[i] = value;
    places[i] = best;
  }
}

// in_channel, bins: the places of a channel and the bins of a region; numbers: those of a region.
__global__ void backward(const int n, const int channels, const int in_channel, const int bins, const int regions,
                         const int numbers, const Dtype *rois, const Dtype *dy, const int *places, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const int place = i % in_channel, c = i / in_channel % channels, sample = i / in_channel / channels;
    Dtype sum = 0;
    for (int r = 0; r < regions; r++) {
      if ((int)rois[r * numbers] != sample) continue;
      const int first = (r * channels + c) * bins;
      for (int b = first; b < first + bins; b++)
        if (places[b] == place) sum += dy[b];
    }
    dx[i] = sum;
  }
}
