// One launch updates all parameters of a net. Each block updates a chunk of one parameter; a rule (SGD, Adam, ...)
// computes from the gradient g the update that is subtracted, and updates the history. The diff then holds the update.

// Values that change from step to step are in device memory, so that a captured step can be replayed.
struct Knobs {
  Dtype rate;   // the learning rate, with Adam's bias correction
  Dtype scale;  // of the gradients: 1 / iter_size, times the factor of clipping
  Dtype norm;   // of all gradients together, for the log
};

// A parameter: addresses of its values, diff and histories, its count, and its multipliers.
struct Tensor {
  Dtype *data, *diff, *first, *second;
  long long count;
  double lr_mult, decay;  // decay: weight_decay * decay_mult
};

#define CHUNK 4096

__global__ void set_rate(Dtype rate, Dtype *knobs) { knobs[0] = rate; }

__global__ void set_scale(Dtype scale, Dtype *knobs) { knobs[1] = scale; }

__global__ void clear_diffs(const long long *tensors, const int *chunks) {
  const Tensor &t = ((const Tensor *)tensors)[chunks[2 * blockIdx.x]];
  const long long start = (long long)chunks[2 * blockIdx.x + 1] * CHUNK, end = min(start + CHUNK, t.count);
  for (long long i = start + threadIdx.x; i < end; i += blockDim.x) t.diff[i] = 0;
}

// partial[block] = the sum of squares of the diffs in its chunk.
__global__ void sum_squares(const long long *tensors, const int *chunks, Dtype *partial) {
  const Tensor &t = ((const Tensor *)tensors)[chunks[2 * blockIdx.x]];
  const long long start = (long long)chunks[2 * blockIdx.x + 1] * CHUNK, end = min(start + CHUNK, t.count);
  Dtype sum = 0;
  for (long long i = start + threadIdx.x; i < end; i += blockDim.x) sum += t.diff[i] * t.diff[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// One block: the norm of all diffs; if it exceeds `limit`, the scale is multiplied by limit / norm.
__global__ void clip_scale(int blocks, Dtype limit, Dtype scale, const Dtype *partial, Dtype *knobs) {
  Dtype sum = 0;
  BLOCK_STRIDE(i, blocks) sum += partial[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) {
    const Dtype norm = sqrt(sum);
    knobs[1] = norm > limit ? scale * (limit / norm) : scale;
    knobs[2] = norm;
  }
}

// Updates this block's chunk: scale, decay, rule, subtract.
template <class Rule>
__device__ void update_chunk(const long long *tensors, const int *chunks, const Dtype *knobs, bool l1, Rule rule) {
  const Tensor &t = ((const Tensor *)tensors)[chunks[2 * blockIdx.x]];
  const Knobs &k = *(const Knobs *)knobs;
  const Dtype rate = k.rate * Dtype(t.lr_mult), decay = Dtype(t.decay);
  const long long start = (long long)chunks[2 * blockIdx.x + 1] * CHUNK, end = min(start + CHUNK, t.count);
  for (long long i = start + threadIdx.x; i < end; i += blockDim.x) {
    const Dtype w = t.data[i];
    Dtype g = t.diff[i] * k.scale;
    g += decay * (l1 ? Dtype((w > 0) - (w < 0)) : w);
    Dtype first = t.first[i], second = t.second ? t.second[i] : Dtype(0);
    g = rule(g, rate, first, second);
    t.first[i] = first;
    if (t.second) t.second[i] = second;
    t.diff[i] = g;
    t.data[i] = w - g;
  }
}

struct SGD {
  Dtype momentum;
  __device__ Dtype operator()(Dtype g, Dtype rate, Dtype &v, Dtype &) const { return v = momentum * v + rate * g; }
};

struct Nesterov {
  Dtype momentum;
  __device__ Dtype operator()(Dtype g, Dtype rate, Dtype &v, Dtype &) const {
    const Dtype old = v;
    v = momentum * v + rate * g;
    return (1 + momentum) * v - momentum * old;
  }
};

struct AdaGrad {
  Dtype delta;
  __device__ Dtype operator()(Dtype g, Dtype rate, Dtype &h, Dtype &) const {
    h += g * g;
    return rate * g / (sqrt(h) + delta);
  }
};

struct RMSProp {
  Dtype decay, delta;
  __device__ Dtype operator()(Dtype g, Dtype rate, Dtype &h, Dtype &) const {
    h = decay * h + (1 - decay) * g * g;
    return rate * g / (sqrt(h) + delta);
  }
};

struct AdaDelta {
  Dtype momentum, delta;
  __device__ Dtype operator()(Dtype g, Dtype rate, Dtype &gradients, Dtype &updates) const {
    gradients = momentum * gradients + (1 - momentum) * g * g;
    const Dtype u = g * sqrt((updates + delta) / (gradients + delta));
    updates = momentum * updates + (1 - momentum) * u * u;
    return rate * u;
  }
};

struct Adam {
  Dtype momentum, momentum2, delta;
  __device__ Dtype operator()(Dtype g, Dtype rate, Dtype &m, Dtype &v) const {
    m = momentum * m + (1 - momentum) * g;
    v = momentum2 * v + (1 - momentum2) * g * g;
    return rate * m / (sqrt(v) + delta);
  }
};

__global__ void sgd(const long long *t, const int *chunks, const Dtype *knobs, Dtype momentum, Dtype second, Dtype delta,
                    bool l1) {
  update_chunk(t, chunks, knobs, l1, SGD{momentum});
}

__global__ void nesterov(const long long *t, const int *chunks, const Dtype *knobs, Dtype momentum, Dtype second,
                         Dtype delta, bool l1) {
  update_chunk(t, chunks, knobs, l1, Nesterov{momentum});
}

__global__ void adagrad(const long long *t, const int *chunks, const Dtype *knobs, Dtype momentum, Dtype second,
                        Dtype delta, bool l1) {
  update_chunk(t, chunks, knobs, l1, AdaGrad{delta});
}

__global__ void rmsprop(const long long *t, const int *chunks, const Dtype *knobs, Dtype momentum, Dtype second,
                        Dtype delta, bool l1) {
  update_chunk(t, chunks, knobs, l1, RMSProp{second, delta});
}

__global__ void adadelta(const long long *t, const int *chunks, const Dtype *knobs, Dtype momentum, Dtype second,
                         Dtype delta, bool l1) {
  update_chunk(t, chunks, knobs, l1, AdaDelta{momentum, delta});
}

__global__ void adam(const long long *t, const int *chunks, const Dtype *knobs, Dtype momentum, Dtype second, Dtype delta,
                     bool l1) {
  update_chunk(t, chunks, knobs, l1, Adam{momentum, second, delta});
}
