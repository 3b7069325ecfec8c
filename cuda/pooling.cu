// Pooling: one thread for each output in forward, for each input in backward, so that no atomics are needed.

// The part of a window that is inside the picture, along one axis.
struct Span {
  int begin, end;
  __device__ Span(int window, int size, int kernel, int stride, int pad) {
    begin = window * stride - pad;
    end = min(begin + kernel, size);
    begin = max(begin, 0);
  }
};

// The windows that cover a place, along one axis.
struct Covers {
  int first, last;
  __device__ Covers(int place, int outputs, int kernel, int stride, int pad) {
    first = place + pad < kernel ? 0 : (place + pad - kernel) / stride + 1;
    last = min((place + pad) / stride, outputs - 1);
  }
};

__device__ int window_size(int window, int size, int kernel, int stride, int pad) {
  const int begin = window * stride - pad;
  return max(1, min(begin + kernel, size + pad) - begin);
}

// mask: row * width + column of each maximum, the first in reading order; -1 (and the value 0) for a window outside.
__global__ void max_forward(const int n, const int height, const int width, const int out_h, const int out_w,
                            const int kernel_h, const int kernel_w, const int stride_h, const int stride_w, const int pad_h,
                            const int pad_w, const Dtype *x, Dtype *y, int *mask, Dtype *top_mask) {
  GRID_STRIDE(i, n) {
    const Span rows(i / out_w % out_h, height, kernel_h, stride_h, pad_h), columns(i % out_w, width, kernel_w, stride_w, pad_w);
    const Dtype *picture = x + (long long)(i / out_w / out_h) * height * width;
    int best = -1;
    for (int h = rows.begin; h < rows.end; h++)
      for (int w = columns.begin; w < columns.end; w++)
        if (best < 0 || picture[h * width + w] > picture[best]) best = h * width + w;
    y[i] = best < 0 ? Dtype(0) : picture[best];
    mask[i] = best;
    if (top_mask) top_mask[i] = best;
  }
}

__global__ void max_backward(const int n, const int height, const int width, const int out_h, const int out_w,
                             const int kernel_h, const int kernel_w, const int stride_h, const int stride_w, const int pad_h,
                             const int pad_w, const Dtype *dy, const int *mask, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const Covers rows(i / width % height, out_h, kernel_h, stride_h, pad_h), columns(i % width, out_w, kernel_w, stride_w, pad_w);
    const long long first = (long long)(i / width / height) * out_h * out_w;
    const int place = i % (height * width);
    Dtype sum = 0;
    for (int h = rows.first; h <= rows.last; h++)
      for (int w = columns.first; w <= columns.last; w++)
        if (mask[first + h * out_w + w] == place) sum += dy[first + h * out_w + w];
    dx[i] = sum;
  }
}

__global__ void ave_forward(const int n, const int height, const int width, const int out_h, const int out_w,
                            const int kernel_h, const int kernel_w, const int stride_h, const int stride_w, const int pad_h,
                            const int pad_w, const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) {
    const int out_row = i / out_w % out_h, out_column = i % out_w;
    const Span rows(out_row, height, kernel_h, stride_h, pad_h), columns(out_column, width, kernel_w, stride_w, pad_w);
    const Dtype *picture = x + (long long)(i / out_w / out_h) * height * width;
    Dtype sum = 0;
    for (int h = rows.begin; h < rows.end; h++)
      for (int w = columns.begin; w < columns.end; w++) sum += picture[h * width + w];
    y[i] = sum / (window_size(out_row, height, kernel_h, stride_h, pad_h) * window_size(out_column, width, kernel_w, stride_w, pad_w));
  }
}

__global__ void ave_backward(const int n, const int height, const int width, const int out_h, const int out_w,
                             const int kernel_h, const int kernel_w, const int stride_h, const int stride_w, const int pad_h,
                             const int pad_w, const Dtype *dy, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const Covers rows(i / width % height, out_h, kernel_h, stride_h, pad_h), columns(i % width, out_w, kernel_w, stride_w, pad_w);
    const Dtype *window = dy + (long long)(i / width / height) * out_h * out_w;
    Dtype sum = 0;
    for (int h = rows.first; h <= rows.last; h++)
      for (int w = columns.first; w <= columns.last; w++)
        sum += window[h * out_w + w] /
               (window_size(h, height, kernel_h, stride_h, pad_h) * window_size(w, width, kernel_w, stride_w, pad_w));
    dx[i] = sum;
  }
}

// The mean of a whole picture: one block for each picture.
__global__ void global_ave_forward(const int places, const Dtype *x, Dtype *y) {
  const Dtype *picture = x + (long long)blockIdx.x * places;
  Dtype sum = 0;
  BLOCK_STRIDE(i, places) sum += picture[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) y[blockIdx.x] = sum / places;
}

// Chooses in each window the first element at which the running sum reaches a random fraction of the total.
__global__ void stochastic_train(const int n, const int height, const int width, const int out_h, const int out_w,
                                 const int kernel_h, const int kernel_w, const int stride_h, const int stride_w,
                                 unsigned long long *state, unsigned *ticket, const Dtype *x, Dtype *y, int *mask) {
  GRID_STRIDE(i, n) {
    const Span rows(i / out_w % out_h, height, kernel_h, stride_h, 0), columns(i % out_w, width, kernel_w, stride_w, 0);
    const Dtype *picture = x + (long long)(i / out_w / out_h) * height * width;
    Dtype sum = 0, passed = 0;
    for (int h = rows.begin; h < rows.end; h++)
      for (int w = columns.begin; w < columns.end; w++) sum += picture[h * width + w];
    const Dtype threshold = Dtype(philox_u32(state, i) * (1.0 / 4294967296.0)) * sum;
    int chosen = -1;
    for (int h = rows.begin; h < rows.end; h++)
      for (int w = columns.begin; w < columns.end; w++) {
        passed += picture[h * width + w];
        if (chosen < 0 && passed >= threshold) chosen = h * width + w;
      }
    y[i] = chosen < 0 ? Dtype(0) : picture[chosen];
    mask[i] = chosen;
  }
  if (last_block(ticket, gridDim.x) && threadIdx.x == 0) drawn(state, n);
}

__global__ void stochastic_test(const int n, const int height, const int width, const int out_h, const int out_w,
                                const int kernel_h, const int kernel_w, const int stride_h, const int stride_w, const Dtype *x,
                                Dtype *y) {
  GRID_STRIDE(i, n) {
    const Span rows(i / out_w % out_h, height, kernel_h, stride_h, 0), columns(i % out_w, width, kernel_w, stride_w, 0);
    const Dtype *picture = x + (long long)(i / out_w / out_h) * height * width;
    Dtype sum = 0, squares = 0;
    for (int h = rows.begin; h < rows.end; h++)
      for (int w = columns.begin; w < columns.end; w++) {
        sum += picture[h * width + w];
        squares += picture[h * width + w] * picture[h * width + w];
      }
    y[i] = squares / max(sum, DTYPE_MIN);
  }
}
