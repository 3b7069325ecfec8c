// BatchNorm and the layers that may follow it (minicaffe.layers.fused): y = s x + b for each channel, a sum with another
// blob, and a ReLU.
//
// The `count` values of a channel are those of all samples and places, in this order; x[sample][channel][place]. A block
// works on `length` of them, from blockIdx.y * length on, of channel blockIdx.x; four at a time where `places`, and so
// each row, is a multiple of four.
#include "packs.cuh"
#include "ranks.cuh"

// The values of one channel on which one block works.
struct Values {
  int channel, channels, places, begin, end;

  __device__ Values(int channels, int places, int count, int length)
      : channel(blockIdx.x), channels(channels), places(places), begin(min((long long)blockIdx.y * length, (long long)count)),
        end(min((long long)begin + length, (long long)count)) {}

  __device__ bool wide() const { return places % 4 == 0; }
  __device__ int count() const { return end - begin; }

  // Calls visit(index in memory) for each WIDTH values of this thread; there is no division in the loop.
  template <int WIDTH, class Visit>
  __device__ __forceinline__ void each(Visit visit) const {
    const int step = blockDim.x * WIDTH, samples = step / places, rest = step - samples * places;
    unsigned i = begin + threadIdx.x * WIDTH;
    int sample = i / places, place = i - (unsigned)sample * places;
    for (; i < (unsigned)end; i += step) {
      visit(((long long)sample * channels + channel) * places + place);
      sample += samples;
      place += rest;
      if (place >= places) {
        place -= places;
        sample++;
      }
    }
  }
};

// ---- statistics ----

// Mean and sum of squared deviations from it.
struct Moments {
  Dtype mean, squares;
};

// Those of a block's values, in one pass over them: sums and sums of squares of x - shift, where shift is the first
// value, so that a mean far from zero causes no cancellation.
template <int WIDTH>
__device__ Moments moments_of(const Values &values, const Dtype *x) {
  const int first = values.begin / values.places;
  const Dtype shift = x[((long long)first * values.channels + values.channel) * values.places + values.begin % values.places];
  Dtype sum = 0, squares = 0;
  values.each<WIDTH>([&](long long at) {
    const Pack<WIDTH> pack = load<WIDTH>(x + at);
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      const Dtype value = pack.v[k] - shift;
      sum += value;
      squares += value * value;
    }
  });
  sum = block_sum(sum);
  squares = block_sum(squares);
  const Dtype shifted = sum / values.count();
  return {shift + shifted, max(squares - shifted * sum, Dtype(0))};
}

// Those of a channel, from its parts of `length` values (the last may be shorter), {mean, squares} each. All threads of a
// block must call. T: in which sums are added.
template <class T>
__device__ void merge(const Dtype *partial, int channel, int parts, int length, int count, T &mean, T &squares) {
  const Dtype *part = partial + 2 * (long long)channel * parts;
  const T first = part[0];
  T sum = 0;
  BLOCK_STRIDE(p, parts) sum += T(min(length, count - p * length)) * (part[2 * p] - first);
  mean = first + block_sum(sum) / count;
  T apart = 0;
  BLOCK_STRIDE(p, parts) {
    const T distance = part[2 * p] - mean;
    apart += part[2 * p + 1] + T(min(length, count - p * length)) * distance * distance;
  }
  squares = block_sum(apart);
}

// partial[channel][part]: the moments of parts of `length` values.
__global__ void moment_parts(const int channels, const int places, const int count, const int length, const Dtype *x,
                             Dtype *partial) {
  const Values values(channels, places, count, length);
  const Moments own = values.wide() ? moments_of<4>(values, x) : moments_of<1>(values, x);
  if (threadIdx.x == 0) {
    Dtype *part = partial + 2 * ((long long)blockIdx.x * gridDim.y + blockIdx.y);
    part[0] = own.mean;
    part[1] = own.squares;
  }
}

// Where a channel's statistics are left. variance, means (the running ones: all three) may be null.
struct Statistics {
  Dtype eps, fraction;
  Dtype *mean, *deviation, *variance, *means, *variances, *weight;

  __device__ void keep(int c, double count, Dtype batch_mean, Dtype batch_variance) const {
    mean[c] = batch_mean;
    deviation[c] = sqrt(batch_variance + eps);
    if (variance) variance[c] = batch_variance;
    if (!means) return;
    means[c] = fraction * means[c] + batch_mean;
    variances[c] = fraction * variances[c] + batch_variance * (count > 1 ? Dtype(count / (count - 1)) : Dtype(1));
    if (c == 0) weight[0] = fraction * weight[0] + 1;
  }
};

// This rank's row of `Merged`, and zeros in those of the others, which are then summed over the ranks. A block for each
// channel.
__global__ void own_statistics(const int channels, const int parts, const int length, const int count, const int rank,
                               const int ranks, const Dtype *partial, double *rows) {
  const int c = blockIdx.x;
  double mean, squares;
  merge(partial, c, parts, length, count, mean, squares);
  BLOCK_STRIDE(r, ranks) {
    double *row = rows + r * (1 + 2 * (long long)channels);
    const bool own = r == rank;
    if (c == 0) row[0] = own ? count : 0;
    row[1 + c] = own ? mean : 0;
    row[1 + channels + c] = own ? squares : 0;
  }
}

__global__ void statistics_of_ranks(const int n, const int ranks, const double *rows, const Dtype eps,
                                    const Dtype fraction, Dtype *mean, Dtype *deviation, Dtype *variance, Dtype *means,
                                    Dtype *variances, Dtype *weight) {
  const Statistics statistics = {eps, fraction, mean, deviation, variance, means, variances, weight};
  GRID_STRIDE(c, n) {
    const Merged all(c, n, ranks, rows);
    statistics.keep(c, all.count, all.mean, all.variance);
  }
}

__global__ void global_statistics(const int n, const Dtype eps, const Dtype *means, const Dtype *variances,
                                  const Dtype *weight, Dtype *mean, Dtype *deviation) {
  const Dtype share = weight[0] == 0 ? Dtype(0) : 1 / weight[0];
  GRID_STRIDE(c, n) {
    mean[c] = share * means[c];
    deviation[c] = sqrt(share * variances[c] + eps);
  }
}

// ---- forward ----

// A Scale's factor and term for one channel, and a ReLU.
struct Followers {
  Dtype s, b;
  bool relu;
  Dtype slope;
  __device__ Followers(const Dtype *s, const Dtype *b, bool relu, Dtype slope, int c)
      : s(s ? s[c] : Dtype(1)), b(b ? b[c] : Dtype(0)), relu(relu), slope(slope) {}
  __device__ Dtype scaled(Dtype x) const { return fma(x, s, b); }
};

// y = ReLU(factor * inner + other_factor * other), inner = the scaled value. Each of `other`, `kept` (the layer's own copy
// of x) and `inner` may be null.
struct Results {
  Dtype factor, other_factor;
  const Dtype *x, *other;
  Dtype *kept, *inner, *y;

  template <int WIDTH>
  __device__ void write(const Values &values, Dtype mean, Dtype inverse, const Followers &followers) const {
    values.each<WIDTH>([&](long long at) {
      const Pack<WIDTH> in = load<WIDTH>(x + at);
      Pack<WIDTH> scaled, out;
#pragma unroll
      for (int k = 0; k < WIDTH; k++) out.v[k] = scaled.v[k] = followers.scaled((in.v[k] - mean) * inverse);
      if (other) {
        const Pack<WIDTH> more = load<WIDTH>(other + at);
#pragma unroll
        for (int k = 0; k < WIDTH; k++) out.v[k] = factor * out.v[k] + other_factor * more.v[k];
      }
      if (followers.relu) {
#pragma unroll
        for (int k = 0; k < WIDTH; k++) out.v[k] = rectified(out.v[k], followers.slope);
      }
      if (kept) store(kept + at, in);
      if (inner) store(inner + at, scaled);
      store(y + at, out);
    });
  }
};

#define WHOLE (-1)   // the block has all values of its channel and computes their statistics
#define GIVEN 0      // they are in mean and deviation
#define STORED (-2)  // they are those of means, variances and weight

// parts: of `partial`, with part_length values each; or one of the constants above. The statistics of a batch are left as
// in `Statistics`; STORED ones in mean and deviation.
__global__ void __launch_bounds__(1024)
    normalize(const int channels, const int places, const int count, const int length, const int parts,
              const int part_length, const Dtype *partial, const Dtype eps, const Dtype fraction, Dtype *mean,
              Dtype *deviation, Dtype *variance, Dtype *means, Dtype *variances, Dtype *weight, const Dtype *s,
              const Dtype *b, const bool relu, const Dtype slope, const Dtype *x, const Dtype factor,
              const Dtype other_factor, const Dtype *other, Dtype *kept, Dtype *inner, Dtype *y) {
  const Values values(channels, places, count, length);
  const int c = values.channel;
  const bool leads = blockIdx.y == 0 && threadIdx.x == 0;
  Dtype center, spread;
  if (parts == GIVEN) {
    center = mean[c];
    spread = deviation[c];
  } else if (parts == STORED) {
    const Dtype share = weight[0] == 0 ? Dtype(0) : 1 / weight[0];
    center = share * means[c];
    spread = sqrt(share * variances[c] + eps);
    if (leads) {
      mean[c] = center;
      deviation[c] = spread;
    }
  } else {
    Moments batch;
    if (parts == WHOLE)
      batch = values.wide() ? moments_of<4>(values, x) : moments_of<1>(values, x);
    else
      merge(partial, c, parts, part_length, count, batch.mean, batch.squares);
    center = batch.mean;
    spread = sqrt(batch.squares / count + eps);
    const Statistics statistics = {eps, fraction, mean, deviation, variance, means, variances, weight};
    if (leads) statistics.keep(c, count, center, batch.squares / count);
  }
  const Followers followers(s, b, relu, slope, c);
  const Results results = {factor, other_factor, x, other, kept, inner, y};
  if (values.wide())
    results.write<4>(values, center, 1 / spread, followers);
  else
    results.write<1>(values, center, 1 / spread, followers);
}

// ---- backward ----

// The gradient g of the sum of two blobs, or of the scaled values, before the ReLU: from that after it, which is the sum
// of dy and `second` (null: dy alone). top: whose signs count for the ReLU; null: the scaled values'.
struct Incoming {
  const Dtype *dy, *second, *top, *x;
  Dtype mean, inverse;
  Followers followers;

  template <int WIDTH>
  __device__ __forceinline__ void read(long long at, Pack<WIDTH> &g, Pack<WIDTH> &normalized) const {
    g = load<WIDTH>(dy + at);
    normalized = load<WIDTH>(x + at);
#pragma unroll
    for (int k = 0; k < WIDTH; k++) normalized.v[k] = (normalized.v[k] - mean) * inverse;
    if (second) {
      const Pack<WIDTH> more = load<WIDTH>(second + at);
#pragma unroll
      for (int k = 0; k < WIDTH; k++) g.v[k] += more.v[k];
    }
    if (!followers.relu) return;
    if (top) {
      const Pack<WIDTH> y = load<WIDTH>(top + at);
#pragma unroll
      for (int k = 0; k < WIDTH; k++) g.v[k] = y.v[k] > 0 ? g.v[k] : g.v[k] * followers.slope;
    } else {
#pragma unroll
      for (int k = 0; k < WIDTH; k++)
        g.v[k] = followers.scaled(normalized.v[k]) > 0 ? g.v[k] : g.v[k] * followers.slope;
    }
  }
};

struct Sums {
  Dtype g, products;  // of g, and of g times the normalized values
};

// The sums over a block's values, times `factor`, that of the scaled values in a sum of blobs. On the way g is written to
// `through`, and other_factor * g, the other blob's gradient, to `beside`; both may be null.
template <int WIDTH>
__device__ Sums sums_of(const Values &values, const Incoming &incoming, Dtype factor, Dtype other_factor, Dtype *through,
                        Dtype *beside) {
  Dtype sum = 0, products = 0;
  values.each<WIDTH>([&](long long at) {
    Pack<WIDTH> g, normalized;
    incoming.read<WIDTH>(at, g, normalized);
    if (through) store(through + at, g);
    if (beside) {
      Pack<WIDTH> other;
#pragma unroll
      for (int k = 0; k < WIDTH; k++) other.v[k] = other_factor * g.v[k];
      store(beside + at, other);
    }
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      sum += g.v[k];
      products += g.v[k] * normalized.v[k];
    }
  });
  return {factor * block_sum(sum), factor * block_sum(products)};
}

// partial[channel][part]: the sums over parts of `length` values.
__global__ void __launch_bounds__(256)
    gradient_parts(const int channels, const int places, const int count, const int length, const Dtype *dy,
                   const Dtype *second, const Dtype *top, const Dtype *x, const Dtype *mean, const Dtype *deviation,
                   const Dtype *s, const Dtype *b, const bool relu, const Dtype slope, const Dtype factor,
                   const Dtype other_factor, Dtype *through, Dtype *beside, Dtype *partial) {
  const Values values(channels, places, count, length);
  const int c = values.channel;
  const Incoming incoming = {dy, second, top, x, mean[c], 1 / deviation[c], {s, b, relu, slope, c}};
  const Sums own = values.wide() ? sums_of<4>(values, incoming, factor, other_factor, through, beside)
                                 : sums_of<1>(values, incoming, factor, other_factor, through, beside);
  if (threadIdx.x == 0) {
    Dtype *part = partial + 2 * ((long long)c * gridDim.y + blockIdx.y);
    part[0] = own.g;
    part[1] = own.products;
  }
}

// inner = the gradient s g that a Scale in place leaves; dx = (s g - its means over the batch) / deviation. Either may be
// null. g_mean = E[g], product_mean = E[g x]: 0 where the statistics are not the batch's.
template <int WIDTH>
__device__ void write_gradients(const Values &values, const Incoming &incoming, Dtype factor, Dtype g_mean,
                                Dtype product_mean, Dtype *inner, Dtype *dx) {
  const Dtype s = incoming.followers.s, scale = s * incoming.inverse;
  values.each<WIDTH>([&](long long at) {
    Pack<WIDTH> g, normalized, out;
    incoming.read<WIDTH>(at, g, normalized);
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      g.v[k] *= factor;
      out.v[k] = scale * (g.v[k] - g_mean - product_mean * normalized.v[k]);
      g.v[k] *= s;
    }
    if (inner) store(inner + at, g);
    if (dx) store(dx + at, out);
  });
}

// parts: of `partial`; or WHOLE, where the sums are computed here as by `gradient_parts`; or GIVEN: E[g] and E[g x] are
// means[c] and means[channels + c], or 0 if `means` is null. Where the statistics are not those `of_batch` the means are 0.
// The sums are added to db and ds, each of which may be null. `through`, where it is written, is read again in place of dy.
__global__ void __launch_bounds__(1024)
    gradients(const int channels, const int places, const int count, const int length, const int parts,
              const Dtype *partial, const Dtype *means, const bool of_batch, const Dtype *dy, const Dtype *second,
              const Dtype *top, const Dtype *x, const Dtype *mean, const Dtype *deviation, const Dtype *s, const Dtype *b,
              const bool relu, const Dtype slope, const Dtype factor, const Dtype other_factor, Dtype *through,
              Dtype *beside, Dtype *db, Dtype *ds, Dtype *inner, Dtype *dx) {
  const Values values(channels, places, count, length);
  const int c = values.channel;
  Incoming incoming = {dy, second, top, x, mean[c], 1 / deviation[c], {s, b, relu, slope, c}};
  Sums all = {0, 0};
  if (parts == WHOLE) {
    all = values.wide() ? sums_of<4>(values, incoming, factor, other_factor, through, beside)
                        : sums_of<1>(values, incoming, factor, other_factor, through, beside);
  } else if (parts > 0) {
    const Dtype *part = partial + 2 * (long long)c * parts;
    BLOCK_STRIDE(p, parts) {
      all.g += part[2 * p];
      all.products += part[2 * p + 1];
    }
    all = {block_sum(all.g), block_sum(all.products)};
  }
  Dtype g_mean = of_batch ? all.g / count : 0, product_mean = of_batch ? all.products / count : 0;
  if (parts == GIVEN && means) {
    g_mean = means[c];
    product_mean = means[channels + c];
  }
  if (blockIdx.y == 0 && threadIdx.x == 0) {
    if (db) db[c] += all.g;
    if (ds) ds[c] += all.products;
  }
  if (through) {
    incoming.dy = through;
    incoming.second = nullptr;
    incoming.followers.relu = false;
  }
  if (!inner && !dx) return;
  if (values.wide())
    write_gradients<4>(values, incoming, factor, g_mean, product_mean, inner, dx);
  else
    write_gradients<1>(values, incoming, factor, g_mean, product_mean, inner, dx);
}

// The sums of a rank are added to db and ds; `sums`, the count, the sums of g, those of the products, is then summed over
// the ranks, and gives the means.
__global__ void own_gradients(const int channels, const int parts, const int count, const Dtype *partial, Dtype *db,
                              Dtype *ds, double *sums) {
  GRID_STRIDE(c, channels) {
    Dtype g = 0, products = 0;
    for (int p = 0; p < parts; p++) {
      g += partial[2 * ((long long)c * parts + p)];
      products += partial[2 * ((long long)c * parts + p) + 1];
    }
    if (c == 0) sums[0] = count;
    sums[1 + c] = g;
    sums[1 + channels + c] = products;
    if (db) db[c] += g;
    if (ds) ds[c] += products;
  }
}

__global__ void means_of_ranks(const int n, const double *sums, Dtype *means) {
  GRID_STRIDE(i, n) means[i] = sums[1 + i] / sums[0];
}

// ---- folding ----

// Weights and bias of the convolution that is equal to a convolution followed by this layer, with its stored statistics,
// and its Scale; `length` weights for each channel. A block for each channel. mean and deviation: as by `normalize`.
__global__ void fold(const int length, const Dtype *weights, const Dtype *bias, const Dtype eps, const Dtype *means,
                     const Dtype *variances, const Dtype *weight, const Dtype *s, const Dtype *b, Dtype *mean,
                     Dtype *deviation, Dtype *folded, Dtype *folded_bias) {
  const int c = blockIdx.x;
  const Dtype share = weight[0] == 0 ? Dtype(0) : 1 / weight[0];
  const Dtype center = share * means[c], spread = sqrt(share * variances[c] + eps);
  const Dtype factor = (s ? s[c] : Dtype(1)) / spread;
  const long long start = (long long)c * length;
  BLOCK_STRIDE(i, length) folded[start + i] = weights[start + i] * factor;
  if (threadIdx.x > 0) return;
  mean[c] = center;
  deviation[c] = spread;
  folded_bias[c] = ((bias ? bias[c] : Dtype(0)) - center) * factor + (b ? b[c] : Dtype(0));
}
