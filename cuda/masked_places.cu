// Upsample, Unpooling: `small` and `large` are the places of a picture before and after. Masks that point outside are
// ignored.

// winners is initialised to -1; of several values for one place the last one is used, as on the CPU.
__global__ void claim(const int n, const int small, const int large, const Dtype *mask, int *winners) {
  GRID_STRIDE(i, n) {
    const int place = (int)mask[i];
    if (place >= 0 && place < large) atomicMax(winners + (long long)(i / small) * large + place, i);
  }
}

__global__ void put(const int n, const Dtype *x, const int *winners, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = winners[i] < 0 ? Dtype(0) : x[winners[i]];
}

__global__ void take(const int n, const int small, const int large, const Dtype *dy, const Dtype *mask, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const int place = (int)mask[i];
    dx[i] = place >= 0 && place < large ? dy[(long long)(i / small) * large + place] : Dtype(0);
  }
}
