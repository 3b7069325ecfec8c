// d = x - centre(label); x is (samples, width), centres is (classes, width).
__global__ void distances(const int n, const int width, const int classes, const Dtype *x, const Dtype *labels,
                          const Dtype *centres, Dtype *wrong, Dtype *d) {
  GRID_STRIDE(i, n) {
    const int label = (int)labels[i / width];
    if (label >= 0 && label < classes) {
      d[i] = x[i] - centres[(long long)label * width + i % width];
    } else {
      d[i] = 0;
      note_wrong(wrong, labels[i / width]);
    }
  }
}

// For each class minus the sum of its samples' d, divided by their number plus one; computed at its first sample.
__global__ void step_of_centres(const int n, const int width, const int classes, const int samples, const Dtype *labels,
                                const Dtype *d, Dtype *step) {
  GRID_STRIDE(i, n) {
    const int sample = i / width, label = (int)labels[sample];
    bool first = label >= 0 && label < classes;
    for (int j = 0; first && j < sample; j++) first = (int)labels[j] != label;
    if (!first) continue;
    Dtype sum = 0;
    int count = 0;
    for (int j = sample; j < samples; j++) {
      if ((int)labels[j] != label) continue;
      sum += d[(long long)j * width + i % width];
      count++;
    }
    step[(long long)label * width + i % width] -= sum / (count + 1);
  }
}

__global__ void signs(const int n, Dtype *d) { GRID_STRIDE(i, n) d[i] = (d[i] > 0) - (d[i] < 0); }
