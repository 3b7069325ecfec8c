// The loss of each of n = outer * inner positions; p is (outer, classes, inner).
__global__ void losses(const int n, const int classes, const int inner, const Dtype *p, const Dtype *labels,
                       const bool may_ignore, const int ignored, Dtype *wrong, Dtype *loss, Dtype *counted) {
  GRID_STRIDE(i, n) {
    const int label = (int)labels[i];
    const bool counts = !(may_ignore && label == ignored);
    counted[i] = counts;
    loss[i] = 0;
    if (counts && label >= 0 && label < classes) {
      const Dtype at_label = p[((long long)(i / inner) * classes + label) * inner + i % inner];
      loss[i] = -log(max(at_label, Dtype(1.17549435e-38f)));
    } else if (counts) {
      wrong[0] = 1;
      wrong[1] = labels[i];
    }
  }
}

__global__ void gradient(const int n, const int classes, const int inner, const Dtype *p, const Dtype *labels,
                         const bool may_ignore, const int ignored, const Dtype *weight, const Dtype *divisor, Dtype *dx) {
  const Dtype scale = *weight / *divisor;
  GRID_STRIDE(i, n) {
    const int label = (int)labels[i / inner / classes * inner + i % inner], k = i / inner % classes;
    dx[i] = may_ignore && label == ignored ? Dtype(0) : scale * (p[i] - (k == label));
  }
}
