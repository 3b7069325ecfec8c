// Infogain: matrix is (classes, classes), p is (outer, classes, inner).

__global__ void row_sums(const int n, const Dtype *matrix, Dtype *sums) {
  GRID_STRIDE(i, n) {
    Dtype sum = 0;
    for (int k = 0; k < n; k++) sum += matrix[i * n + k];
    sums[i] = sum;
  }
}

__global__ void losses(const int n, const int classes, const int inner, const Dtype *p, const Dtype *labels,
                       const Dtype *matrix, const bool may_ignore, const int ignored, Dtype *wrong, Dtype *loss,
                       Dtype *counted) {
  GRID_STRIDE(i, n) {
    const int label = (int)labels[i];
    const bool counts = !(may_ignore && label == ignored);
    Dtype cost = 0;
    if (counts && label >= 0 && label < classes) {
      const Dtype *position = p + (long long)(i / inner) * classes * inner + i % inner;
      for (int k = 0; k < classes; k++) {
        const Dtype at_k = position[(long long)k * inner];
        cost -= matrix[label * classes + k] * log(at_k < Dtype(1e-20) ? Dtype(1e-20) : at_k);  // nan propagates
      }
    } else if (counts) {
      note_wrong(wrong, labels[i]);
    }
    counted[i] = counts;
    loss[i] = cost;
  }
}

__global__ void gradient(const int n, const int classes, const int inner, const Dtype *p, const Dtype *labels,
                         const Dtype *matrix, const Dtype *sums, const bool may_ignore, const int ignored,
                         const Dtype *weight, const Dtype *divisor, Dtype *dx) {
  const Dtype scale = *weight / *divisor;
  GRID_STRIDE(i, n) {
    const int label = (int)labels[i / inner / classes * inner + i % inner], k = i / inner % classes;
    const bool counts = !(may_ignore && label == ignored) && label >= 0 && label < classes;
    dx[i] = counts ? scale * (p[i] * sums[label] - matrix[label * classes + k]) : Dtype(0);
  }
}
