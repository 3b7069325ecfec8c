// Connectionist temporal classification (layers/shared/ctc.py): x (T, N, K) are scores. A path has S = 2 L + 1 places:
// the L labels with a blank before, between and behind them. alpha, shares: (T, N, S).
#include "threads.cuh"

// The labels of each sequence, -1 behind the last; counts (2, N) get the numbers of labels and of steps. One thread for
// each of n sequences; lengths, steps and continuation may be null.
__global__ void read_targets(const int n, const int most_steps, const int classes, const int blank, const int most,
                             const bool by_step, const int shift, const bool collapse, const int all_steps,
                             const Dtype *given, const Dtype *lengths, const Dtype *steps, const Dtype *continuation,
                             Dtype *wrong, Dtype *labels, Dtype *counts) {
  GRID_STRIDE(i, n) {
    int count = 0, before = 0;
    const int end = lengths ? min(most, (int)lengths[i]) : most;
    for (int l = 0; l < end; l++) {
      const Dtype value = given[by_step ? l * n + i : i * most + l];
      if (!lengths && value < 0) break;
      const int label = (int)value + shift;
      const bool again = collapse && l && label == before;
      before = label;
      if (label < 0 || label >= classes)
        note_wrong(wrong, value);
      else if (label != blank && !again)
        labels[i * most + count++] = label;
    }
    counts[i] = count;
    for (int l = count; l < most; l++) labels[i * most + l] = -1;
    int own = all_steps ? all_steps : most_steps;
    if (steps) own = steps[i] >= 0 && steps[i] <= most_steps ? (int)steps[i] : -1;
    if (continuation) {
      for (own = 1; own < most_steps && continuation[own * n + i] >= Dtype(0.5);) own++;
      if (count == 0) own = 0;
    }
    counts[n + i] = own;
  }
}

// log of the sum of exp(x) of each of n rows.
template <class Threads>
__device__ __forceinline__ void rows_sum_classes(const int n, const int classes, const Dtype *x, Dtype *log_sums) {
  const Threads threads;
  STRIDE(row, threads.first, n, threads.step) {
    const Dtype *in = x + (long long)row * classes;
    Dtype largest = -DTYPE_MAX, sum = 0;
    STRIDE(k, threads.lane, classes, threads.lanes) largest = max(largest, in[k]);
    largest = threads.largest(largest);
    STRIDE(k, threads.lane, classes, threads.lanes) sum += exp(in[k] - largest);
    sum = threads.sum(sum);
    if (threads.lane == 0) log_sums[row] = largest + log(sum);
  }
}

__global__ void sum_classes(const int n, const int classes, const Dtype *x, Dtype *log_sums) {
  if (classes <= LONG_ROW)
    rows_sum_classes<Warp>(n, classes, x, log_sums);
  else
    rows_sum_classes<Block>(n, classes, x, log_sums);
}

__device__ __forceinline__ Dtype log_zero() { return log(Dtype(0)); }  // -inf

// log(exp(a) + exp(b)).
__device__ __forceinline__ Dtype log_add(const Dtype a, const Dtype b) {
  const Dtype larger = max(a, b), smaller = min(a, b);
  return smaller == log_zero() ? (isnan(a) || isnan(b) ? a + b : larger) : larger + log1p(exp(smaller - larger));
}

// The places of one sequence.
struct Places {
  const int classes, blank, sequences, sequence, most, places;
  const bool merge;
  const Dtype *x, *log_sums, *labels;

  __device__ int label(const int place) const { return place % 2 ? (int)labels[sequence * most + place / 2] : blank; }
  __device__ Dtype log_p(const int step, const int place) const {
    const long long row = (long long)step * sequences + sequence;
    return x[row * classes + label(place)] - log_sums[row];
  }
  __device__ long long start(const int step) const { return ((long long)step * sequences + sequence) * (2 * most + 1); }
  __device__ bool stays(const int place) const { return merge || place % 2 == 0; }
  __device__ bool skips(const int place) const {  // whether it follows the place before the last
    return place % 2 && place > 1 && (!merge || label(place) != label(place - 2));
  }
};

#define SEQUENCE                                                                                                  \
  const int sequence = blockIdx.x, most_places = 2 * (int)counts[sequence] + 1, steps = (int)counts[sequences + sequence]; \
  const Places at = {classes, blank, sequences, sequence, most, most_places, merge, x, log_sums, labels};

// alpha: the logarithm of the sum over all paths to each place at each step. terms: -log p of each sequence; 0 where no
// path is possible, nan where the number of steps was out of range. A block works on a sequence.
__global__ void forward(const int sequences, const int classes, const int blank, const bool merge, const int most,
                        const Dtype *x, const Dtype *log_sums, const Dtype *labels, const Dtype *counts, Dtype *alpha,
                        Dtype *terms) {
  SEQUENCE
  for (int t = 0; t < steps; t++) {
    const Dtype *before = alpha + at.start(t - 1);
    BLOCK_STRIDE(s, at.places) {
      Dtype total = t == 0 && s < 2 ? Dtype(0) : log_zero();
      if (t > 0) {
        if (at.stays(s)) total = before[s];
        if (s > 0) total = log_add(total, before[s - 1]);
        if (at.skips(s)) total = log_add(total, before[s - 2]);
      }
      alpha[at.start(t) + s] = total + at.log_p(t, s);
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    Dtype cost = steps < 0 ? Dtype(nan("")) : Dtype(0);
    if (steps > 0) {
      const Dtype *last = alpha + at.start(steps - 1) + at.places - 1;
      cost = -(at.places > 1 ? log_add(last[0], last[-1]) : last[0]);
      if (cost == -log_zero()) cost = 0;
    }
    terms[sequence] = cost;
  }
}

// shares: the share of the paths through each place at each step, all of a step together 1; -1 for the first place at
// steps without a gradient. beta (2, N, S): by turns, the logarithm of what follows, with the step's own probability. A
// block works on a sequence.
__global__ void backward(const int sequences, const int classes, const int blank, const bool merge, const int most,
                         const Dtype *x, const Dtype *log_sums, const Dtype *labels, const Dtype *counts,
                         const int all_steps, const Dtype *alpha, Dtype *beta, Dtype *shares) {
  SEQUENCE
  Dtype all = log_zero();
  if (steps > 0) {
    const Dtype *last = alpha + at.start(steps - 1) + at.places - 1;
    all = at.places > 1 ? log_add(last[0], last[-1]) : last[0];
  }
  for (int t = all_steps - 1; t >= 0; t--) {
    if (t >= steps || all == log_zero()) {
      if (threadIdx.x == 0) shares[at.start(t)] = -1;
      continue;
    }
    Dtype *own = beta + at.start(t % 2);
    const Dtype *next = beta + at.start((t + 1) % 2);
    BLOCK_STRIDE(s, at.places) {
      Dtype total = t == steps - 1 && s >= at.places - 2 ? Dtype(0) : log_zero();
      if (t < steps - 1) {
        if (at.stays(s)) total = next[s];
        if (s + 1 < at.places) total = log_add(total, next[s + 1]);
        if (s + 2 < at.places && at.skips(s + 2)) total = log_add(total, next[s + 2]);
      }
      own[s] = total + at.log_p(t, s);
      shares[at.start(t) + s] = exp(alpha[at.start(t) + s] + total - all);
    }
    __syncthreads();
  }
}

// dx = (softmax(x) - share of the paths through the class) * weight. A block works on a row.
__global__ void gradient(const int sequences, const int classes, const int blank, const int most, const Dtype *x,
                         const Dtype *log_sums, const Dtype *labels, const Dtype *shares, const Dtype *weight, Dtype *dx) {
  const long long row = blockIdx.x;
  const Dtype *share = shares + row * (2 * most + 1), *own = labels + row % sequences * most;
  const Dtype scale = share[0] < 0 ? Dtype(0) : *weight;
  x += row * classes;
  dx += row * classes;
  BLOCK_STRIDE(k, classes) dx[k] = scale == 0 ? Dtype(0) : scale * exp(x[k] - log_sums[row]);
  __syncthreads();
  if (scale == 0) return;
  BLOCK_STRIDE(l, most + 1) {
    const int label = l ? (int)own[l - 1] : blank;  // the blank, or a label, where it is the first of its class
    bool first = label >= 0;
    for (int j = 0; j + 1 < l; j++) first = first && own[j] != label;
    if (!first) continue;
    Dtype sum = 0;
    for (int j = max(l - 1, 0); j < most && own[j] >= 0; j++)
      if (l == 0 || own[j] == label) sum += share[2 * j + (l > 0)];
    if (l == 0) {
      int count = 0;
      while (count < most && own[count] >= 0) count++;
      sum += share[2 * count];
    }
    dx[label] -= scale * sum;
  }
}
