// PSROIPooling: one thread for each output in forward, for each input in backward.

// Bin `index` of `count` bins from `low` to `high` (inclusive) of the image, clipped to `size` places.
struct Bin {
  int begin, end;
  __device__ Bin(int index, int count, Dtype low, Dtype high, Dtype scale, int size) {
    const Dtype start = round(low) * scale, step = max((round(high) + 1) * scale - start, Dtype(0.1)) / Dtype(count);
    begin = min(max((int)floor(index * step + start), 0), size);
    end = min(max((int)ceil((index + 1) * step + start), 0), size);
  }
};

__global__ void forward(const int n, const int samples, const int outputs, const int height, const int width, const int group,
                        const Dtype scale, const Dtype *x, const Dtype *rois, Dtype *y) {
  GRID_STRIDE(i, n) {
    const Dtype *roi = rois + i / group / group / outputs * 5;
    const int sample = (int)roi[0], channel = i % (outputs * group * group);
    Dtype sum = 0;
    int count = 1;
    if (sample >= 0 && sample < samples) {
      const Dtype *picture = x + ((long long)sample * outputs * group * group + channel) * height * width;
      const Bin rows(i / group % group, group, roi[2], roi[4], scale, height);
      const Bin columns(i % group, group, roi[1], roi[3], scale, width);
      for (int h = rows.begin; h < rows.end; h++)
        for (int w = columns.begin; w < columns.end; w++) sum += picture[h * width + w];
      count = max((rows.end - rows.begin) * (columns.end - columns.begin), 1);
    }
    y[i] = sum / count;
  }
}

__global__ void backward(const int n, const int outputs, const int height, const int width, const int group,
                         const Dtype scale, const int regions, const Dtype *rois, const Dtype *dy, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const int w = i % width, h = i / width % height, channels = outputs * group * group;
    const int channel = i / width / height % channels, sample = i / width / height / channels;
    Dtype sum = 0;
    for (int r = 0; r < regions; r++) {
      const Dtype *roi = rois + r * 5;
      if ((int)roi[0] != sample) continue;
      const Bin rows(channel / group % group, group, roi[2], roi[4], scale, height);
      const Bin columns(channel % group, group, roi[1], roi[3], scale, width);
      if (h >= rows.begin && h < rows.end && w >= columns.begin && w < columns.end)
        sum += dy[r * channels + channel] / ((rows.end - rows.begin) * (columns.end - columns.begin));
    }
    dx[i] = sum;
  }
}
