// The loss of each of n = outer * inner positions; p is (outer, classes, inner); class_weights may be null.
__global__ void losses(const int n, const int classes, const int inner, const Dtype *p, const Dtype *labels,
                       const bool may_ignore, const int ignored, const Dtype *class_weights, Dtype *wrong, Dtype *loss,
                       Dtype *counted) {
  GRID_STRIDE(i, n) {
    const int label = (int)labels[i];
    const bool counts = !(may_ignore && label == ignored);
    counted[i] = counts;
    loss[i] = 0;
    if (counts && label >= 0 && label < classes) {
      const Dtype at_label = p[((long long)(i / inner) * classes + label) * inner + i % inner];
      const Dtype least = Dtype(1.17549435e-38f);  // the smallest normal float; compared below, as max would hide nan
      loss[i] = -log(at_label < least ? least : at_label) * (class_weights ? class_weights[label] : Dtype(1));
    } else if (counts) {
      wrong[0] = 1;
      wrong[1] = labels[i];
    }
  }
}

__global__ void gradient(const int n, const int classes, const int inner, const Dtype *p, const Dtype *labels,
                         const bool may_ignore, const int ignored, const Dtype *class_weights, const Dtype *weight,
                         const Dtype *divisor, Dtype *dx) {
  const Dtype scale = *weight / *divisor;
  GRID_STRIDE(i, n) {
    const int label = (int)labels[i / inner / classes * inner + i % inner], k = i / inner % classes;
    const bool counts = label >= 0 && label < classes && !(may_ignore && label == ignored);
    dx[i] = counts ? scale * (class_weights ? class_weights[label] : Dtype(1)) * (p[i] - (k == label)) : Dtype(0);
  }
}
