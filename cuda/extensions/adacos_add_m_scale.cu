// The sums of exp(scale x) and of arccos x of each sample, (2, samples); x are cosines, (samples, classes), whose labels
// are kept[0 .. samples), or -1. One block for each sample.
__global__ void sums(const int samples, const int classes, const Dtype *x, const Dtype *kept, const Dtype *scale, Dtype *out) {
  const int sample = blockIdx.x, label = (int)kept[sample];
  const Dtype *row = x + (long long)sample * classes, before = *scale;
  Dtype powers = 0, angles = 0;
  BLOCK_STRIDE(k, classes) {
    powers += k == label ? Dtype(1) : exp(before * row[k]);
    angles += acos(max(Dtype(-1), min(Dtype(1), row[k])));
  }
  powers = block_sum(powers);
  angles = block_sum(angles);
  if (threadIdx.x) return;
  out[sample] = powers;
  out[samples + sample] = angles;
}

// The next scale; one block.
__global__ void adapt(const int samples, const int classes, const Dtype *sums, Dtype *scale) {
  Dtype powers = 0, angles = 0;
  BLOCK_STRIDE(i, samples) {
    powers += sums[i];
    angles += sums[samples + i];
  }
  powers = block_sum(powers);
  angles = block_sum(angles);
  if (threadIdx.x) return;
  const Dtype quarter = Dtype(0.78539816339744831), mean = angles / (Dtype(samples) * classes);
  *scale = log(powers / samples) / cos(mean < quarter ? mean : quarter);
}
