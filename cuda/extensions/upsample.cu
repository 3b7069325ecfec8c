// Upsample: `small` and `large` are the places of a picture before and after. Masks that point outside are ignored.

// winners is initialised to -1; of several values for one place the last one is used, as on the CPU.
__global__ void claim(const int n, const int small, const int large, const Dtype *mask, int *winners) {
  GRID_STRIDE(i, n) {
    const int place = (int)mask[i];
    if (place >= 0 && place < large) atomicMax(winners + (long long)(i / small) * large + place, i);
  }
}

__global__ void forward(const int n, const Dtype *x, const int *winners, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = winners[i] < 0 ? Dtype(0) : x[winners[i]];
}

__global__ void backward(const int n, const int small, const int large, const Dtype *dy, const Dtype *mask, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const int place = (int)mask[i];
    dx[i] = place >= 0 && place < large ? dy[(long long)(i / small) * large + place] : Dtype(0);
  }
}

// ---- without a mask: `width` is that of y; scale divides it ----

__global__ void repeat(const int n, const int scale, const int width, const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = x[(i / width / scale) * (width / scale) + i % width / scale];
}

__global__ void add_up(const int n, const int scale, const int width, const Dtype *dy, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const int small = width / scale;
    const Dtype *first = dy + (long long)(i / small) * scale * width + i % small * scale;
    Dtype sum = 0;
    for (int row = 0; row < scale; row++)
      for (int column = 0; column < scale; column++) sum += first[(long long)row * width + column];
    dx[i] = sum;
  }
}
