// LRN across channels, and within a channel.

// One thread for each place of each sample iterates over the channels with a running sum; reads are coalesced.
__global__ void across_forward(const int n, const int channels, const int places, const int size, const Dtype rate,
                               const Dtype k, const Dtype beta, const Dtype *x, Dtype *scale, Dtype *y) {
  const int reach = size / 2;
  GRID_STRIDE(i, n) {
    const long long first = (long long)(i / places) * channels * places + i % places;
    Dtype sum = 0;
    for (int head = 0; head < channels + reach; head++) {
      if (head < channels) {
        const Dtype value = x[first + (long long)head * places];
        sum += value * value;
      }
      if (head >= size) {
        const Dtype value = x[first + (long long)(head - size) * places];
        sum = max(sum - value * value, Dtype(0));
      }
      if (head >= reach) {
        const long long at = first + (long long)(head - reach) * places;
        const Dtype s = k + rate * sum;
        scale[at] = s;
        y[at] = x[at] * pow(s, -beta);
      }
    }
  }
}

__global__ void within_forward(const int n, const int height, const int width, const int size, const Dtype rate,
                               const Dtype beta, const Dtype *x, Dtype *scale, Dtype *y) {
  const int reach = size / 2;
  GRID_STRIDE(i, n) {
    const int row = i / width % height, column = i % width;
    const Dtype *picture = x + (i - i % (height * width));
    Dtype sum = 0;
    for (int h = max(row - reach, 0); h <= min(row + reach, height - 1); h++)
      for (int w = max(column - reach, 0); w <= min(column + reach, width - 1); w++)
        sum += picture[h * width + w] * picture[h * width + w];
    const Dtype s = 1 + rate * sum / (size * size);
    scale[i] = s;
    y[i] = x[i] * pow(s, -beta);
  }
}

// The part of each element's gradient that goes to its neighbours (ratio), and its own part.
__global__ void shares(const int n, const Dtype beta, const Dtype *x, const Dtype *dy, const Dtype *scale, Dtype *ratio,
                       Dtype *dx) {
  GRID_STRIDE(i, n) {
    const Dtype own = dy[i] * pow(scale[i], -beta);
    ratio[i] = own * x[i] / scale[i];
    dx[i] = own;
  }
}

__global__ void across_backward(const int n, const int channels, const int places, const int size, const Dtype factor,
                                const Dtype *x, const Dtype *ratio, Dtype *dx) {
  const int reach = size / 2;
  GRID_STRIDE(i, n) {
    const long long first = (long long)(i / places) * channels * places + i % places;
    Dtype sum = 0;
    for (int head = 0; head < channels + reach; head++) {
      if (head < channels) sum += ratio[first + (long long)head * places];
      if (head >= size) sum -= ratio[first + (long long)(head - size) * places];
      if (head >= reach) {
        const long long at = first + (long long)(head - reach) * places;
        dx[at] -= factor * x[at] * sum;
      }
    }
  }
}

__global__ void within_backward(const int n, const int height, const int width, const int size, const Dtype factor,
                                const Dtype *x, const Dtype *ratio, Dtype *dx) {
  const int reach = size / 2;
  GRID_STRIDE(i, n) {
    const int row = i / width % height, column = i % width;
    const Dtype *picture = ratio + (i - i % (height * width));
    Dtype sum = 0;
    for (int h = max(row - reach, 0); h <= min(row + reach, height - 1); h++)
      for (int w = max(column - reach, 0); w <= min(column + reach, width - 1); w++) sum += picture[h * width + w];
    dx[i] -= factor * x[i] * sum / (size * size);
  }
}
