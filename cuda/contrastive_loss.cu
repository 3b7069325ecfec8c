// The loss of a pair and its derivative with respect to a; one warp for each pair. nan propagates.
__global__ void losses(const int channels, const Dtype margin, const bool legacy, const Dtype *a, const Dtype *b,
                       const Dtype *like, Dtype *loss, Dtype *slope) {
  const int pair = blockIdx.x;
  const long long start = (long long)pair * channels;
  Dtype squared = 0;
  STRIDE(k, threadIdx.x, channels, 32) {
    const Dtype d = a[start + k] - b[start + k];
    squared += d * d;
  }
  squared = warp_sum(squared);
  Dtype cost = squared, factor = 1;
  if ((int)like[pair] == 0) {
    const Dtype distance = sqrt(squared), gap = margin - (legacy ? squared : distance), room = gap < 0 ? Dtype(0) : gap;
    cost = legacy ? room : room * room;
    factor = legacy ? (room > 0 ? Dtype(-1) : Dtype(0)) : -room / (distance + Dtype(1e-4));
  }
  if (threadIdx.x == 0) loss[pair] = cost;
  STRIDE(k, threadIdx.x, channels, 32) slope[start + k] = factor * (a[start + k] - b[start + k]);
}
