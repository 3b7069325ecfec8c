// One block for each sample. sums is (3, samples): the cost, the distance of the label, the sum of the others.
__global__ void rows(const int samples, const int centres, const Dtype *distances, const Dtype *labels, const Dtype margin,
                     const Dtype pull, const Dtype push, const Dtype bound, const bool hardest_only, const bool always,
                     Dtype *wrong, Dtype *slopes, Dtype *sums) {
  const int sample = blockIdx.x, label = (int)labels[sample];
  const Dtype *d = distances + (long long)sample * centres;
  Dtype *slope = slopes + (long long)sample * centres;
  if (label < 0 || label >= centres) {
    BLOCK_STRIDE(j, centres) slope[j] = 0;
    if (threadIdx.x) return;
    note_wrong(wrong, labels[sample]);
    for (int k = 0; k < 3; k++) sums[k * samples + sample] = 0;
    return;
  }
  const Dtype own = d[label];
  const bool first = own > bound;
  Dtype greatest = 0, cost = 0, active = 0, rest = 0;
  BLOCK_STRIDE(j, centres) {
    const Dtype term = own + margin - d[j];
    const bool counts = j != label && term > 0 && !first;
    if (j != label) rest += d[j];
    if (counts) greatest = max(greatest, term);
  }
  greatest = block_max(greatest);
  int best = -centres;  // minus the first centre with the greatest term
  BLOCK_STRIDE(j, centres)
    if (j != label && own + margin - d[j] == greatest) best = max(best, -j);
  best = -block_max(best);
  BLOCK_STRIDE(j, centres) {
    const Dtype term = own + margin - d[j];
    const bool counts = j != label && term > 0 && !first && (!hardest_only || j == best);
    if (counts) cost += term, active += 1;
    if (j != label) slope[j] = counts ? -push : Dtype(0);
  }
  cost = block_sum(cost);
  active = block_sum(active);
  rest = block_sum(rest);
  if (threadIdx.x) return;
  slope[label] = always || first || active > 0 ? pull : Dtype(0);
  sums[sample] = push * cost;
  sums[samples + sample] = own;
  sums[2 * samples + sample] = rest;
}
