// ReverseTime: x and y are (steps, sequences, inner); nan for a length outside 0 to steps.
__global__ void turn(const int n, const int steps, const int sequences, const int inner, const bool copies,
                     const Dtype *lengths, const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) {
    const int step = i / inner / sequences;
    const Dtype length = lengths[i / inner % sequences];
    if (!(length >= 0 && length <= steps)) {
      y[i] = nan("");
    } else {
      const int back = (int)length - 1 - step;
      y[i] = back >= 0 ? x[i + (back - step) * sequences * inner] : copies ? x[i] : Dtype(0);
    }
  }
}
