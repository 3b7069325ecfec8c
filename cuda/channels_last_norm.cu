// Statistics and scaling of the channels of channels-last arrays: BatchNorm with the Scale and the ReLU behind it.
//
// The rows are divided into `parts` of `length` rows, the last of which may be shorter. Each block sums the channels of
// one chunk over one part; the last block of a chunk adds the parts in order.
#include "channels_last.cuh"

// Sums over the rows of a block, for each channel of its chunk: two numbers, by all threads; `sums` has 16 for each.
// Channel `threadIdx.x` of the chunk gets its two sums.
__device__ __forceinline__ void sum_rows(const Lane &lane, const float (&first)[VECTOR], const float (&second)[VECTOR],
                                         float (*sums)[257], float &one, float &two) {
  __syncthreads();
#pragma unroll
  for (int k = 0; k < VECTOR; k++) {
    sums[k][threadIdx.x] = first[k];
    sums[VECTOR + k][threadIdx.x] = second[k];
  }
  __syncthreads();
  one = two = 0;
  const int column = threadIdx.x / VECTOR, k = threadIdx.x % VECTOR;
  if (column < lane.columns)
    for (int row = 0; row < lane.rows; row++) {
      one += sums[k][row * lane.columns + column];
      two += sums[VECTOR + k][row * lane.columns + column];
    }
}

// The sum over each group of GROUP neighbouring threads; all of a group get the result.
template <int GROUP>
__device__ __forceinline__ float group_sum(float value) {
#pragma unroll
  for (int d = 1; d < GROUP; d *= 2) value += __shfl_xor_sync(0xffffffffu, value, d);
  return value;
}

// Mean and squared deviations of a channel from those of its parts, {mean, squared deviations} each, by a group of
// threads. All threads of the block must call.
template <int GROUP>
struct Merged {
  float mean, deviations;
  __device__ Merged(const float *partials, int parts, int length, int rows) {
    float sum = 0, squares = 0;
    for (int p = threadIdx.x % GROUP; p < parts; p += GROUP) sum += min(length, rows - p * length) * partials[2 * p];
    mean = group_sum<GROUP>(sum) / rows;
    for (int p = threadIdx.x % GROUP; p < parts; p += GROUP) {
      const float distance = partials[2 * p] - mean;
      squares += partials[2 * p + 1] + min(length, rows - p * length) * distance * distance;
    }
    deviations = group_sum<GROUP>(squares);
  }
};

// What a BatchNorm makes of the statistics of a batch.
struct Running {
  float eps, fraction;
  float *mean, *deviation, *means, *variances, *weight;
  __device__ void update(int c, int rows, float value, float deviations) const {
    const float variance = max(deviations / rows, 0.0f);
    mean[c] = value;
    deviation[c] = sqrt(variance + eps);
    means[c] = fraction * means[c] + value;
    variances[c] = fraction * variances[c] + variance * (rows > 1 ? float(rows) / (rows - 1) : 1.0f);
    if (c == 0) weight[0] = fraction * weight[0] + 1;
  }
};

template <int GROUP>
__device__ void merge_channels(int first, int channels, int parts, int length, int rows, const float *partials,
                               const Running &running) {
  const int c = first + threadIdx.x / GROUP;
  const Merged<GROUP> all(partials + 2ll * parts * min(c, channels - 1), parts, length, rows);
  if (c < channels && threadIdx.x % GROUP == 0) running.update(c, rows, all.mean, all.deviations);
}

__global__ void moments(const int rows, const int channels, const int parts, const int length, const Element *x,
                        float *partials, unsigned *tickets, const float eps, const float fraction, float *mean,
                        float *deviation, float *means, float *variances, float *weight) {
  __shared__ float sums[2 * VECTOR][257];
  const int vectors = (channels + VECTOR - 1) / VECTOR;
  const Lane lane(vectors);
  const int begin = lane.part * length, end = min(begin + length, rows);
  Eight shift = {};
  float sum[VECTOR] = {}, squares[VECTOR] = {};
  if (lane.vector >= 0) {
    x += lane.vector * VECTOR;
    shift = load(x + (long long)begin * vectors * VECTOR);
    for (int row = begin + lane.row; row < end; row += lane.rows) {
      const Eight values = load(x + (long long)row * vectors * VECTOR);
#pragma unroll
      for (int k = 0; k < VECTOR; k++) {
        const float value = values.v[k] - shift.v[k];
        sum[k] += value;
        squares[k] += value * value;
      }
    }
  }
  float one, two;
  sum_rows(lane, sum, squares, sums, one, two);
  const int column = threadIdx.x / VECTOR, k = threadIdx.x % VECTOR, c = lane.chunk * 64 + threadIdx.x;
  __syncthreads();
  if (lane.row == 0 && lane.vector >= 0)
#pragma unroll
    for (int j = 0; j < VECTOR; j++) sums[j][lane.column] = shift.v[j];
  __syncthreads();
  if (column < lane.columns && c < channels) {
    const int count = end - begin;
    partials[2 * ((long long)c * parts + lane.part)] = sums[k][column] + one / count;
    partials[2 * ((long long)c * parts + lane.part) + 1] = max(two - one * one / count, 0.0f);
  }
  if (!last_block(tickets + lane.chunk, parts)) return;
  const Running running = {eps, fraction, mean, deviation, means, variances, weight};
  merge_channels<4>(lane.chunk * 64, channels, parts, length, rows, partials, running);
}

// As the end of `moments`, for the many parts of which a convolution has left partials: one block for 8 channels.
__global__ void merge(const int rows, const int channels, const int parts, const int length, const float *partials,
                      const float eps, const float fraction, float *mean, float *deviation, float *means,
                      float *variances, float *weight) {
  const Running running = {eps, fraction, mean, deviation, means, variances, weight};
  merge_channels<32>(blockIdx.x * 8, channels, parts, length, rows, partials, running);
}

// For the eight channels of a thread: normalization, then layers that may follow in place, y = s x + b and a ReLU. Each
// rounds its result, as it does by itself. Without statistics, s or b: null. first: the channel of the first statistics.
struct Channels {
  float mean[VECTOR], factor[VECTOR], s[VECTOR], b[VECTOR];
  bool scales, relu;
  float slope;
  __device__ Channels(int vector, int channels, const float *means, const float *deviations, const float *scale,
                      const float *bias, bool relu, float slope, int first = 0)
      : scales(scale || bias), relu(relu), slope(slope) {
#pragma unroll
    for (int k = 0; k < VECTOR; k++) {
      const int c = vector * VECTOR + k;
      const bool valid = c < channels;
      mean[k] = valid && means ? means[c - first] : 0.0f;
      factor[k] = !valid ? 0.0f : deviations ? 1 / deviations[c - first] : 1.0f;
      s[k] = valid && scale ? scale[c] : 1.0f;
      b[k] = valid && bias ? bias[c] : 0.0f;
    }
  }
  __device__ float normalized(float x, int k) const { return stored((x - mean[k]) * factor[k]); }
  __device__ float scaled(float y, int k) const { return scales ? stored(fma(y, s[k], b[k])) : y; }
  __device__ float top(float y, int k) const {
    y = scaled(y, k);
    return relu ? rectified(y, slope) : y;
  }
  // The gradient before the ReLU, from that after it, for a normalized y.
  __device__ float gradient(float dy, float y, int k) const { return relu && !(scaled(y, k) > 0) ? stored(dy * slope) : dy; }
};

// The statistics are computed first, by each block for its channels, if there are partials of `parts` of the rows; the
// first block of a chunk leaves them.
__global__ void normalize(const int rows, const int channels, const int step, const int parts, const int length,
                          const float *partials, const float eps, const float fraction, float *mean, float *deviation,
                          float *means, float *variances, float *weight, const Element *x, const float *s,
                          const float *b, const bool relu, const float slope, Element *y) {
  __shared__ float merged[2][64];
  const int vectors = (channels + VECTOR - 1) / VECTOR;
  const Lane lane(vectors);
  if (parts) {
    const int c = lane.chunk * 64 + threadIdx.x / 4;
    const Merged<4> all(partials + 2ll * parts * min(c, channels - 1), parts, length, rows);
    if (threadIdx.x % 4 == 0) {
      merged[0][threadIdx.x / 4] = all.mean;
      merged[1][threadIdx.x / 4] = sqrt(max(all.deviations / rows, 0.0f) + eps);
      const Running running = {eps, fraction, mean, deviation, means, variances, weight};
      if (lane.part == 0 && c < channels) running.update(c, rows, all.mean, all.deviations);
    }
    __syncthreads();
  }
  if (lane.vector < 0) return;
  const Channels each(lane.vector, channels, parts ? merged[0] : mean, parts ? merged[1] : deviation, s, b, relu, slope,
                      parts ? lane.chunk * 64 : 0);
  STRIDE(row, lane.part * lane.rows + lane.row, rows, step) {
    const long long at = ((long long)row * vectors + lane.vector) * VECTOR;
    Eight values = load(x + at);
#pragma unroll
    for (int k = 0; k < VECTOR; k++) values.v[k] = each.top(each.normalized(values.v[k], k), k);
    store(y + at, values);
  }
}

// The gradients of b and s are added to db and ds, where there are; means[c] = E[g], means[channels + c] = E[g y].
__global__ void sum_gradients(const int rows, const int channels, const int parts, const int length, const Element *x,
                              const Element *dy, const float *mean, const float *deviation, const float *s,
                              const float *b, const bool relu, const float slope, float *partials, unsigned *tickets,
                              float *db, float *ds, float *means) {
  __shared__ float sums[2 * VECTOR][257];
  const int vectors = (channels + VECTOR - 1) / VECTOR;
  const Lane lane(vectors);
  const int begin = lane.part * length, end = min(begin + length, rows);
  float sum[VECTOR] = {}, products[VECTOR] = {};
  if (lane.vector >= 0) {
    const Channels each(lane.vector, channels, mean, deviation, s, b, relu, slope);
    for (int row = begin + lane.row; row < end; row += lane.rows) {
      const long long at = ((long long)row * vectors + lane.vector) * VECTOR;
      const Eight values = load(x + at), gradients = load(dy + at);
#pragma unroll
      for (int k = 0; k < VECTOR; k++) {
        const float y = each.normalized(values.v[k], k), g = each.gradient(gradients.v[k], y, k);
        sum[k] += g;
        products[k] += g * y;
      }
    }
  }
  float one, two;
  sum_rows(lane, sum, products, sums, one, two);
  const int column = threadIdx.x / VECTOR, first = lane.chunk * 64;
  if (column < lane.columns && first + threadIdx.x < channels) {
    float *partial = partials + 2 * ((long long)(first + threadIdx.x) * parts + lane.part);
    partial[0] = one, partial[1] = two;
  }
  if (!last_block(tickets + lane.chunk, parts)) return;
  const int c = first + threadIdx.x / 4;
  const float *partial = partials + 2ll * parts * min(c, channels - 1);
  one = two = 0;
  for (int p = threadIdx.x % 4; p < parts; p += 4) {
    one += partial[2 * p];
    two += partial[2 * p + 1];
  }
  one = group_sum<4>(one), two = group_sum<4>(two);
  if (c < channels && threadIdx.x % 4 == 0) {
    if (means) means[c] = one / rows, means[channels + c] = two / rows;
    if (db) db[c] += one;
    if (ds) ds[c] += two;
  }
}

__global__ void normalize_gradient(const int rows, const int channels, const int step, const Element *x,
                                   const Element *dy, const float *mean, const float *deviation, const float *s,
                                   const float *b, const bool relu, const float slope, const float *means, Element *dx) {
  const int vectors = (channels + VECTOR - 1) / VECTOR;
  const Lane lane(vectors);
  if (lane.vector < 0) return;
  const Channels each(lane.vector, channels, mean, deviation, s, b, relu, slope);
  float shift[VECTOR], change[VECTOR];
#pragma unroll
  for (int k = 0; k < VECTOR; k++) {
    const int c = min(lane.vector * VECTOR + k, channels - 1);
    shift[k] = means[c], change[k] = means[channels + c];
  }
  STRIDE(row, lane.part * lane.rows + lane.row, rows, step) {
    const long long at = ((long long)row * vectors + lane.vector) * VECTOR;
    const Eight values = load(x + at), gradients = load(dy + at);
    Eight result;
#pragma unroll
    for (int k = 0; k < VECTOR; k++) {
      const float y = each.normalized(values.v[k], k), g = each.gradient(gradients.v[k], y, k);
      result.v[k] = each.s[k] * (g - shift[k] - change[k] * y) * each.factor[k];
    }
    store(dx + at, result);
  }
}

// The diff that the layers behind a normalization, which work in place, leave in their blob.
__global__ void followers_gradient(const int rows, const int channels, const int step, const Element *x,
                                   const float *mean, const float *deviation, const float *s, const float *b,
                                   const bool relu, const float slope, const Element *dy, Element *out) {
  const int vectors = (channels + VECTOR - 1) / VECTOR;
  const Lane lane(vectors);
  if (lane.vector < 0) return;
  const Channels each(lane.vector, channels, mean, deviation, s, b, relu, slope);
  STRIDE(row, lane.part * lane.rows + lane.row, rows, step) {
    const long long at = ((long long)row * vectors + lane.vector) * VECTOR;
    const Eight values = load(x + at);
    Eight gradients = load(dy + at);
#pragma unroll
    for (int k = 0; k < VECTOR; k++)
      gradients.v[k] = each.s[k] * each.gradient(gradients.v[k], each.normalized(values.v[k], k), k);
    store(out + at, gradients);
  }
}
