// One launch updates all parameters of a net. Each block updates a chunk of one parameter; a rule (SGD, Adam, ...)
// computes from the gradient g the update that is subtracted, and updates the history. The diff then holds the update.
#include "packs.cuh"

// Values that change from step to step are in device memory, so that a captured step can be replayed.
struct Knobs {
  Dtype rate;   // the learning rate, with Adam's bias correction
  Dtype scale;  // of the gradients: 1 / iter_size, times the factor of clipping
  Dtype norm;   // of all gradients together, for the log
};

// A parameter: addresses of its values, diff and histories, its count, and its multipliers.
struct Tensor {
  Dtype *data, *diff, *first, *second;
  const Dtype *rate;  // its own learning rate, as `larc` writes it; 0: that of all, times lr_mult
  long long count;
  double lr_mult, decay;  // decay: weight_decay * decay_mult
};

#define CHUNK 2048

// A pointer that was read from memory; the compiler does not know by itself that it points to global memory.
__device__ __forceinline__ Dtype *global(Dtype *pointer) {
#ifndef __CUDA_EMU__
  __builtin_assume(__isGlobal(pointer));
#endif
  return pointer;
}

// The part of a parameter that a block works on.
struct Chunk {
  Tensor tensor;
  long long start;
  int count;
  __device__ Chunk(const long long *tensors, const int *chunks) {
    tensor = ((const Tensor *)tensors)[chunks[2 * blockIdx.x]];
    start = (long long)chunks[2 * blockIdx.x + 1] * CHUNK;
    count = (int)min(tensor.count - start, (long long)CHUNK);
  }
};

__global__ void set_rate(Dtype rate, Dtype *knobs) { knobs[0] = rate; }

__global__ void clear_diffs(const long long *tensors, const int *chunks) {
  const Chunk chunk(tensors, chunks);
  map_share(chunk.count, threadIdx.x, blockDim.x, global(chunk.tensor.diff + chunk.start), [] { return Dtype(0); });
}

// The norm of all diffs; if it exceeds `limit`, the scale is multiplied by limit / norm. Each block adds the squares in
// its chunk, the last one adds the sums.
__global__ void clip(const long long *tensors, const int *chunks, const Dtype limit, const Dtype scale, Dtype *partial,
                     unsigned *ticket, Dtype *knobs) {
  const Chunk chunk(tensors, chunks);
  const Dtype *diff = global(chunk.tensor.diff + chunk.start);
  Dtype sum = 0;
  BLOCK_STRIDE(i, chunk.count) sum += diff[i] * diff[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
  if (!last_block(ticket, gridDim.x)) return;
  sum = 0;
  BLOCK_STRIDE(i, gridDim.x) sum += partial[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) {
    const Dtype norm = sqrt(sum);
    knobs[1] = norm > limit ? scale * (limit / norm) : scale;
    knobs[2] = norm;
  }
}

// The learning rate of each parameter by LARC, from the norms of its values and its scaled diff. Each block adds the
// squares in its chunk, the last one adds the sums of each parameter, whose chunks are first[i] .. first[i + 1].
__global__ void larc(const long long *tensors, const int *chunks, const int *first, const int count, const Dtype eta,
                     const bool clips, Dtype *partial, unsigned *ticket, const Dtype *knobs, Dtype *rates) {
  const Chunk chunk(tensors, chunks);
  const Dtype *data = global(chunk.tensor.data + chunk.start), *diff = global(chunk.tensor.diff + chunk.start);
  Dtype of_data = 0, of_diff = 0;
  BLOCK_STRIDE(i, chunk.count) {
    of_data += data[i] * data[i];
    of_diff += diff[i] * diff[i];
  }
  of_data = block_sum(of_data);
  of_diff = block_sum(of_diff);
  if (threadIdx.x == 0) {
    partial[2 * blockIdx.x] = of_data;
    partial[2 * blockIdx.x + 1] = of_diff;
  }
  if (!last_block(ticket, gridDim.x)) return;
  const Knobs k = *(const Knobs *)knobs;
  for (int p = 0; p < count; p++) {
    of_data = of_diff = 0;
    BLOCK_STRIDE(i, first[p + 1] - first[p]) {
      of_data += partial[2 * (first[p] + i)];
      of_diff += partial[2 * (first[p] + i) + 1];
    }
    of_data = block_sum(of_data);
    of_diff = block_sum(of_diff);
    if (threadIdx.x) continue;
    const Dtype norm = k.scale * sqrt(of_diff), mult = Dtype(((const Tensor *)tensors)[p].lr_mult);
    Dtype own = of_data > 0 && norm > 0 ? eta * sqrt(of_data) / norm : Dtype(1);
    if (!(mult > 0)) own = mult;
    rates[p] = clips ? min(k.rate, own) : k.rate * own;
  }
}

// Updates `count` elements beginning with these, this thread's share: scale, decay, rule, subtract. T is Pack or Dtype.
template <class T, class Rule>
__device__ __forceinline__ void update(const int begin, const int end, Dtype *__restrict__ data, Dtype *__restrict__ diff,
                                       Dtype *__restrict__ first, Dtype *__restrict__ second, const Dtype rate,
                                       const Dtype scale, const Dtype decay, const bool l1, const Rule rule) {
  STRIDE(i, begin + threadIdx.x, end, blockDim.x) {
    T w = ((T *)data)[i], g = ((T *)diff)[i], h = ((T *)first)[i], h2 = {};
    if (second) h2 = ((T *)second)[i];
#pragma unroll
    for (int j = 0; j < (int)(sizeof(T) / sizeof(Dtype)); j++) {
      Dtype &value = ((Dtype *)&w)[j], &u = ((Dtype *)&g)[j];
      u *= scale;
      u += decay * (l1 ? Dtype((value > 0) - (value < 0)) : value);
      u = rule(u, rate, ((Dtype *)&h)[j], ((Dtype *)&h2)[j]);
      value -= u;
    }
    ((T *)first)[i] = h;
    if (second) ((T *)second)[i] = h2;
    ((T *)diff)[i] = g;
    ((T *)data)[i] = w;
  }
}

template <class Rule>
__device__ __forceinline__ void update_chunk(const long long *tensors, const int *chunks, const Dtype *knobs, const bool l1,
                                             const Rule rule) {
  const Chunk chunk(tensors, chunks);
  const Tensor &t = chunk.tensor;
  const Knobs k = *(const Knobs *)knobs;
  Dtype *data = global(t.data + chunk.start), *diff = global(t.diff + chunk.start);
  Dtype *first = global(t.first + chunk.start), *second = t.second ? global(t.second + chunk.start) : (Dtype *)0;
  const Dtype rate = t.rate ? *t.rate : k.rate * Dtype(t.lr_mult), decay = Dtype(t.decay);
  const int packs = aligned(data, diff, first, second) ? chunk.count / PACK : 0;
  update<Pack<>>(0, packs, data, diff, first, second, rate, k.scale, decay, l1, rule);
  update<Dtype>(packs * PACK, chunk.count, data, diff, first, second, rate, k.scale, decay, l1, rule);
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
