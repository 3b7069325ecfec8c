// Losses and gradients of a single-shot detector; layers/shared/multibox.py finds the targets.

// ---- boxes: n = 4 coordinates of each match; x is (cells, 4); divisors and inside may be null ----

__device__ Dtype difference(int i, const int *cells, const Dtype *codes, const Dtype *divisors, const bool *inside,
                            const Dtype *x) {
  if (inside && !inside[i]) return 0;
  const Dtype predicted = x[(long long)cells[i / 4] * 4 + i % 4];
  return (divisors ? predicted / divisors[i] : predicted) - codes[i];
}

__global__ void box_losses(const int n, const bool smooth, const int *cells, const Dtype *codes, const Dtype *divisors,
                           const bool *inside, const Dtype weight, const Dtype *x, Dtype *loss) {
  GRID_STRIDE(i, n) {
    const Dtype d = difference(i, cells, codes, divisors, inside, x), size = fabs(d);
    loss[i] = weight * (smooth && !(size < 1) ? size - Dtype(0.5) : Dtype(0.5) * d * d);
  }
}

// Writes the elements of dx that belong to matches; with respect to the prediction after the division.
__global__ void box_gradient(const int n, const bool smooth, const int *cells, const Dtype *codes, const Dtype *divisors,
                             const bool *inside, const Dtype *weight, const Dtype factor, const Dtype *x, Dtype *dx) {
  const Dtype scale = factor * *weight;
  GRID_STRIDE(i, n) {
    const Dtype d = difference(i, cells, codes, divisors, inside, x);
    const Dtype slope = smooth && d > 1 ? Dtype(1) : smooth && d < -1 ? Dtype(-1) : d;
    dx[(long long)cells[i / 4] * 4 + i % 4] = scale * slope;
  }
}

// ---- classes: n rows; x is (all rows, classes); rows may be null, then row i is i; label -1 is none ----

struct Softmax {  // of one row
  Dtype largest, sum;

  __device__ Softmax(const Dtype *x, int classes) : largest(x[0]), sum(0) {
    for (int k = 1; k < classes; k++) largest = max(largest, x[k]);
    for (int k = 0; k < classes; k++) sum += exp(x[k] - largest);
  }
};

__global__ void class_losses(const int n, const int classes, const bool independent, const int *rows, const int *labels,
                             const Dtype *x, Dtype *loss) {
  GRID_STRIDE(i, n) {
    const Dtype *row = x + (long long)(rows ? rows[i] : i) * classes;
    const Dtype own = labels[i] < 0 ? Dtype(0) : row[labels[i]];
    if (independent) {
      Dtype sum = 0;
      for (int k = 0; k < classes; k++) sum += max(row[k], Dtype(0)) + log1p(exp(-fabs(row[k])));
      loss[i] = sum - own;
    } else {
      const Softmax softmax(row, classes);
      const Dtype value = log(softmax.sum) + (softmax.largest - own), most = -log(Dtype(1.17549435e-38f));
      loss[i] = value > most ? most : value;  // a comparison, as min would hide nan
    }
  }
}

// Writes the rows of dx that have a target.
__global__ void class_gradient(const int n, const int classes, const bool independent, const int *rows, const int *labels,
                               const Dtype *weight, const Dtype factor, const Dtype *x, Dtype *dx) {
  const Dtype scale = factor * *weight;
  GRID_STRIDE(i, n) {
    const long long start = (long long)rows[i] * classes;
    const Softmax softmax(x + start, classes);
    for (int k = 0; k < classes; k++) {
      const Dtype score = x[start + k];
      const Dtype share = independent ? Dtype(0.5) * tanh(Dtype(0.5) * score) + Dtype(0.5)
                                      : exp(score - softmax.largest) / softmax.sum;
      dx[start + k] = scale * (share - (k == labels[i]));
    }
  }
}

// ---- further classes of rows with several: n scores; at is their indices ----

__global__ void further_losses(const int n, const int *at, const Dtype *x, Dtype *loss) {
  GRID_STRIDE(i, n) loss[i] = -x[at[i]];
}

__global__ void further_gradient(const int n, const int *at, const Dtype *weight, const Dtype factor, Dtype *dx) {
  GRID_STRIDE(i, n) dx[at[i]] -= factor * *weight;
}
