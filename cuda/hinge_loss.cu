// n = samples * classes margins max(0, 1 - s x), negated at the label, and their losses; nan propagates.
__global__ void losses(const int n, const int classes, const bool squared, const Dtype *x, const Dtype *labels, Dtype *wrong,
                       Dtype *margins, Dtype *loss) {
  GRID_STRIDE(i, n) {
    const int label = (int)labels[i / classes];
    const bool at_label = i % classes == label;
    const Dtype missing = at_label ? 1 - x[i] : 1 + x[i], margin = missing < 0 ? Dtype(0) : missing;
    margins[i] = at_label ? -margin : margin;
    loss[i] = squared ? margin * margin : margin;
    if (label < 0 || label >= classes) note_wrong(wrong, labels[i / classes]);
  }
}

__global__ void gradient(const int n, const bool squared, const Dtype *weight, const Dtype *divisor, const Dtype *margins,
                         Dtype *dx) {
  const Dtype scale = *weight / *divisor;
  GRID_STRIDE(i, n) {
    const Dtype margin = margins[i];
    dx[i] = scale * (squared ? 2 * margin : margin > 0 ? Dtype(1) : margin < 0 ? Dtype(-1) : margin);
  }
}
