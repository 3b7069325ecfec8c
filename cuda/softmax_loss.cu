// The softmax of x, (outer, classes, inner), and the loss of its n = outer * inner positions.
#include "loss.cuh"
#include "softmax.cuh"

// Which positions have a loss, and its factor; weights may be null.
struct Labels {
  const Dtype *labels;
  bool may_ignore;
  int ignored, classes;
  const Dtype *weights;

  __device__ bool counts(int label) const { return !(may_ignore && label == ignored); }
  __device__ bool valid(int label) const { return counts(label) && label >= 0 && label < classes; }
  __device__ Dtype weight(int label) const { return weights ? weights[label] : Dtype(1); }
  __device__ Dtype loss(int label, Dtype p) const {
    const Dtype least = Dtype(1.17549435e-38f);  // the smallest normal float; compared below, as max would hide nan
    return -log(p < least ? least : p) * weight(label);
  }
};

struct Sums {  // over the positions of a thread
  Dtype loss = 0, count = 0;
  Dtype *wrong, *losses;  // (number, label) of labels outside the classes; the loss of each position, or null

  // Adds a position: the loss is that of `p`, its probability of the label.
  __device__ void add(const Labels &given, int i, const Dtype *p) {
    const int label = (int)given.labels[i];
    const Dtype own = given.valid(label) ? given.loss(label, *p) : Dtype(0);
    if (given.counts(label) && !given.valid(label)) note_wrong(wrong, given.labels[i]);
    count += given.counts(label);
    loss += own;
    if (losses) losses[i] = own;
  }
};

template <class Threads>
__device__ __forceinline__ void rows_forward(const int n, const int classes, const Dtype *x, const Labels &labels, Dtype *p,
                                             Sums &sums) {
  const Threads threads;
  STRIDE(row, threads.first, n, threads.step) {
    const long long start = (long long)row * classes;
    softmax_row(threads, classes, x + start, p + start);
    const int label = (int)labels.labels[row];
    if (threads.lane == (labels.valid(label) ? label % threads.lanes : 0))  // which has written this number
      sums.add(labels, row, p + start + label);
  }
}

// *out = the sum of the losses / *divisor, see finish_loss; p is the softmax.
__global__ void forward(const int n, const int classes, const int inner, const Dtype *x, const Dtype *labels,
                        const bool may_ignore, const int ignored, const Dtype *class_weights, Dtype *p, Dtype *wrong,
                        Dtype *losses, const Dtype fixed, Dtype *partial, unsigned *ticket, Dtype *divisor, Dtype *out) {
  const Labels given = {labels, may_ignore, ignored, classes, class_weights};
  Sums sums;
  sums.wrong = wrong, sums.losses = losses;
  if (inner == 1 && classes <= LONG_ROW)
    rows_forward<Warp>(n, classes, x, given, p, sums);
  else if (inner == 1)
    rows_forward<Block>(n, classes, x, given, p, sums);
  else
    GRID_STRIDE(i, n) {
      const long long start = column_start(i, classes, inner);
      softmax_column(classes, inner, x + start, p + start);
      sums.add(given, i, p + start + (long long)(int)labels[i] * inner);
    }
  finish_loss(sums.loss, sums.count, fixed, partial, ticket, divisor, out);
}

template <class Threads>
__device__ __forceinline__ void rows_gradient(const int n, const int classes, const Labels &labels, const Dtype scale,
                                              const Dtype *__restrict__ p, Dtype *__restrict__ dx) {
  const Threads threads;
  STRIDE(row, threads.first, n, threads.step) {
    const int label = (int)labels.labels[row];
    const long long start = (long long)row * classes;
    const bool valid = labels.valid(label);
    const Dtype factor = valid ? scale * labels.weight(label) : Dtype(0);
    STRIDE(k, threads.lane, classes, threads.lanes)
    dx[start + k] = valid ? factor * (p[start + k] - (k == label)) : Dtype(0);
  }
}

__global__ void gradient(const int n, const int classes, const int inner, const Dtype *__restrict__ p, const Dtype *labels,
                         const bool may_ignore, const int ignored, const Dtype *class_weights, const Dtype *weight,
                         const Dtype *divisor, Dtype *__restrict__ dx) {
  const Labels given = {labels, may_ignore, ignored, classes, class_weights};
  const Dtype scale = *weight / *divisor;
  if (inner == 1 && classes <= LONG_ROW)
    rows_gradient<Warp>(n, classes, given, scale, p, dx);
  else if (inner == 1)
    rows_gradient<Block>(n, classes, given, scale, p, dx);
  else
    GRID_STRIDE(i, n) {
      const int label = (int)labels[i];
      const long long start = column_start(i, classes, inner);
      const bool valid = given.valid(label);
      const Dtype factor = valid ? scale * given.weight(label) : Dtype(0);
      for (int k = 0; k < classes; k++) {
        const long long at = start + (long long)k * inner;
        dx[at] = valid ? factor * (p[at] - (k == label)) : Dtype(0);
      }
    }
}
