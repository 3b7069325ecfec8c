// One block for each sample. sums is (4, samples): the cost, the clamped distance of the label, the sum of what the others
// are within the margin, minus the sum of their slopes. mean, if any, is added to the margin.
__global__ void rows(const int samples, const int centres, const Dtype *distances, const Dtype *labels, const Dtype near,
                     const Dtype given_margin, const Dtype most, const Dtype bound, const Dtype pull, const Dtype push,
                     const bool nearest_only, const bool exponential, const Dtype *mean, Dtype *wrong, Dtype *slopes,
                     Dtype *sums) {
  const int sample = blockIdx.x, label = (int)labels[sample];
  const Dtype *d = distances + (long long)sample * centres, margin = given_margin + (mean ? *mean : Dtype(0));
  Dtype *slope = slopes + (long long)sample * centres;
  if (label < 0 || label >= centres) {
    BLOCK_STRIDE(j, centres) slope[j] = 0;
    if (threadIdx.x) return;
    note_wrong(wrong, labels[sample]);
    for (int k = 0; k < 4; k++) sums[k * samples + sample] = 0;
    return;
  }
  const Dtype own = d[label];
  const bool first = own > bound;
  Dtype closest = -DTYPE_MAX, cost = 0, within = 0, pushed = 0;  // closest: minus the least distance of the others
  BLOCK_STRIDE(j, centres)
    if (j != label) closest = max(closest, -d[j]);
  closest = block_max(closest);
  int best = -centres;  // minus the first centre at that distance
  BLOCK_STRIDE(j, centres)
    if (j != label && -d[j] == closest) best = max(best, -j);
  best = -block_max(best);
  BLOCK_STRIDE(j, centres) {
    if (j == label) continue;
    const bool inside = d[j] < margin, counts = inside && !first && (!nearest_only || j == best);
    const Dtype small = exponential ? exp(-d[j]) : Dtype(1);
    if (inside) within += margin - d[j];
    if (counts) cost += exponential ? small : margin - d[j];
    if (counts) pushed += push * small;
    slope[j] = counts ? -push * small : Dtype(0);
  }
  cost = block_sum(cost);
  within = block_sum(within);
  pushed = block_sum(pushed);
  if (threadIdx.x) return;
  const Dtype clamped = max(Dtype(0), min(most, own - near));
  slope[label] = first || (own > near && own < most) ? pull : Dtype(0);
  sums[sample] = pull * clamped + push * cost;
  sums[samples + sample] = clamped;
  sums[2 * samples + sample] = within;
  sums[3 * samples + sample] = pushed;
}

// total: the sum of what pushes.
__global__ void limit_pushes(const int n, const int centres, const Dtype *labels, const Dtype most, const Dtype *total,
                             Dtype *slopes) {
  GRID_STRIDE(i, n)
  if (*total > most && i % centres != (int)labels[i / centres]) slopes[i] /= *total;
}

// One block.
__global__ void next_mean(const int samples, const Dtype most, const Dtype *positive, Dtype *mean, Dtype *top) {
  Dtype sum = 0;
  BLOCK_STRIDE(i, samples) sum += positive[i];
  sum = block_sum(sum);
  if (threadIdx.x) return;
  *mean = min(most, Dtype(0.99) * *mean + Dtype(0.01) * sum / max(samples, 1));
  if (top) *top = *mean;
}
