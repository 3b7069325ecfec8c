// The next scale of cosines x, (samples, classes), whose labels are kept[0 .. samples), or -1; one block.
__global__ void adapt(const int samples, const int classes, const Dtype *x, const Dtype *kept, Dtype *scale) {
  const int n = samples * classes;
  const Dtype before = *scale;
  Dtype powers = 0, angles = 0;
  BLOCK_STRIDE(i, n) {
    powers += (int)kept[i / classes] == i % classes ? Dtype(1) : exp(before * x[i]);
    angles += acos(max(Dtype(-1), min(Dtype(1), x[i])));
  }
  powers = block_sum(powers);
  angles = block_sum(angles);
  if (threadIdx.x) return;
  const Dtype quarter = Dtype(0.78539816339744831), mean = angles / n;
  *scale = log(powers / samples) / cos(mean < quarter ? mean : quarter);
}

__global__ void scaled(const int n, const Dtype *scale, Dtype *values) { GRID_STRIDE(i, n) values[i] *= *scale; }
