// Whether the prediction at each of n = outer * inner positions is right; scores are (outer, classes, inner). sign is -1
// if the smallest is the best, else 1.
__global__ void correct(const int n, const int classes, const int inner, const int top_k, const int sign,
                        const Dtype *scores, const Dtype *labels, const bool may_ignore, const int ignored, Dtype *right,
                        Dtype *counted) {
  GRID_STRIDE(i, n) {
    const int label = (int)labels[i];
    const bool counts = !(may_ignore && label == ignored);
    counted[i] = counts;
    right[i] = 0;
    if (counts && label >= 0 && label < classes) {
      const Dtype *position = scores + (long long)(i / inner) * classes * inner + i % inner;
      const Dtype own = position[(long long)label * inner];
      int others = -1;  // the comparison of the label's score with itself is not counted
      for (int k = 0; k < classes; k++) others += sign * position[(long long)k * inner] >= sign * own;
      right[i] = others < top_k && own == own;  // a nan score counts as wrong
    } else if (counts) {
      right[i] = nan("");
    }
  }
}

// The sums are of integers, so they are exact in any order of the atomics.
__global__ void count_by_class(const int n, const int classes, const Dtype *labels, const Dtype *right, const Dtype *counted,
                               Dtype *hits, Dtype *count) {
  GRID_STRIDE(i, n) {
    const int label = (int)labels[i];
    if (counted[i] == 0 || label < 0 || label >= classes) continue;
    atomicAdd(hits + label, right[i]);
    atomicAdd(count + label, Dtype(1));
  }
}

__global__ void shares(const int n, const Dtype *count, Dtype *hits) {
  GRID_STRIDE(i, n) hits[i] = count[i] > 0 ? hits[i] / count[i] : Dtype(0);
}
