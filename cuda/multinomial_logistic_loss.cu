// Minus the logarithm of the label's probability, for each of n samples.
__global__ void losses(const int n, const int classes, const Dtype *p, const Dtype *labels, Dtype *wrong, Dtype *loss) {
  GRID_STRIDE(i, n) {
    const int label = (int)labels[i];
    loss[i] = 0;
    if (label >= 0 && label < classes) {
      const Dtype at_label = p[(long long)i * classes + label];
      loss[i] = -log(at_label < Dtype(1e-20) ? Dtype(1e-20) : at_label);  // nan propagates
    } else {
      note_wrong(wrong, labels[i]);
    }
  }
}

__global__ void gradient(const int n, const int classes, const Dtype *p, const Dtype *labels, const Dtype *weight,
                         const Dtype *divisor, Dtype *dx) {
  const Dtype scale = *weight / *divisor;
  GRID_STRIDE(i, n) {
    const bool at_label = i % classes == (int)labels[i / classes];
    dx[i] = at_label ? -scale / (p[i] < Dtype(1e-20) ? Dtype(1e-20) : p[i]) : Dtype(0);
  }
}
