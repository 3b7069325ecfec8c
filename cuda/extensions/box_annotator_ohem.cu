// BoxAnnotatorOHEM: one thread for each of n = regions * inner positions.

// Whether position i is among the `most` positions of its image with the largest losses; nan counts as the least.
__device__ bool is_kept(int i, int n, int inner, int most, const Dtype *rois, const Dtype *losses) {
  const Dtype image = rois[i / inner * 5];
  const Dtype own = isnan(losses[i]) ? -DTYPE_MAX : losses[i];
  int larger = 0;
  for (int j = 0; j < n && larger < most; j++) {
    if (rois[j / inner * 5] != image) continue;
    const Dtype loss = isnan(losses[j]) ? -DTYPE_MAX : losses[j];
    larger += loss > own || (loss == own && j < i);
  }
  return larger < most;
}

__global__ void keep(const int n, const int channels, const int inner, const int most, const int ignored,
                     const Dtype *rois, const Dtype *losses, const Dtype *labels, const Dtype *weights, Dtype *kept_labels,
                     Dtype *kept_weights) {
  GRID_STRIDE(i, n) {
    const bool kept = is_kept(i, n, inner, most, rois, losses);
    kept_labels[i] = kept ? labels[i] : Dtype(ignored);
    for (int c = 0; c < channels; c++) {
      const int at = (i / inner * channels + c) * inner + i % inner;
      kept_weights[at] = kept ? weights[at] : Dtype(0);
    }
  }
}
