// Convolution and its gradients as products of matrices that are never stored: their elements are gathered from the
// image while a tile is loaded. minicaffe.cuda.convolution makes the tables and describes the method.
#include "gathered.cuh"

// Division of numbers below 2^31 by a constant, as a multiplication and a shift.
struct Divisor {
  unsigned by, factor, shift;
  __device__ explicit Divisor(unsigned by) : by(by), shift(0) {
    while (1ull << shift < by) shift++;
    factor = (unsigned)((((1ull << shift) - by) << 32) / by + 1);
  }
  __device__ int quotient(int n) const { return (int)((__umulhi(n, factor) + (unsigned)n) >> shift); }
};

// The windows of a phase: a lattice of (d, h, w) windows over an image of C x D x H x W.
struct Lattice {
  int depth, height, width;       // how many windows
  int first_z, first_y, first_x;  // the origin of the first one in the image; negative in the padding
  int step_z, step_y, step_x;     // from one to the next
};

// Counts the windows of a lattice over all samples.
struct Counter {
  Divisor all, plane, row;
  __device__ explicit Counter(const Lattice &l)
      : all(l.depth * l.height * l.width), plane(l.height * l.width), row(l.width) {}
  __device__ void split(int i, int &n, int &a, int &b, int &c) const {  // sample, and place in the lattice
    n = all.quotient(i), i -= n * all.by;
    a = plane.quotient(i), i -= a * plane.by;
    b = row.quotient(i), c = i - b * row.by;
  }
};

struct Place {  // the origin of a window: in memory (a group of channels of a sample), and in the image
  const Dtype *image;
  int z, y, x;
};

// An element of a window, from a table: its distance from the origin in memory, its weight, dz << 16 | dy, dx.
typedef int4 Tap;

struct Image {
  const Dtype *data;                 // the first channel of the group
  int sample, depth, height, width;  // elements in a sample (all groups), and the size
  Lattice lattice;
  Counter counter;

  __device__ Place place(int i) const {  // of window i
    int n, a, b, c;
    counter.split(i, n, a, b, c);
    const int z = lattice.first_z + a * lattice.step_z, y = lattice.first_y + b * lattice.step_y;
    const int x = lattice.first_x + c * lattice.step_x;
    return {data + (long long)n * sample + ((long long)z * height + y) * width + x, z, y, x};
  }

  __device__ Dtype at(const Place &p, const Tap &tap) const {
    const int z = p.z + (tap.z >> 16), y = p.y + (short)tap.z, x = p.x + tap.w;
    const bool inside =
        (unsigned)z < (unsigned)depth && (unsigned)y < (unsigned)height && (unsigned)x < (unsigned)width;
    return inside ? p.image[tap.x] : Dtype(0);
  }
};

// ---- forward, and the gradient of the data: each window's sum of weighted elements ----

struct Weights {  // element (i, k): row i, and where the table says that tap k has its weight
  static const bool ALONG_K = true;
  typedef const Dtype *Line;
  const Dtype *data;
  int row;
  const Tap *taps;
  __device__ Line line(int i) const { return data + (long long)i * row; }
  __device__ int depth(int k) const { return taps[k].y; }
  __device__ Dtype at(Line line, int k) const { return line[k]; }
};

struct Patches {  // element (k, i): tap k of window i
  static const bool ALONG_K = false;
  typedef Place Line;
  Image image;
  const Tap *taps;
  __device__ Line line(int i) const { return image.place(i); }
  __device__ Tap depth(int k) const { return taps[k]; }
  __device__ Dtype at(const Place &p, const Tap &tap) const { return image.at(p, tap); }
};

struct Outputs {  // where the sum of row i and window j goes: place (first + step * window) of channel i
  Dtype *data;
  const Dtype *bias;
  bool relu;  // done in place
  Dtype slope;
  int sample, channel, height, width;
  int first_z, first_y, first_x, step_z, step_y, step_x;
  Counter counter;
  __device__ void operator()(int i, int j, Dtype sum) const {
    int n, a, b, c;
    counter.split(j, n, a, b, c);
    const int z = first_z + a * step_z, y = first_y + b * step_y, x = first_x + c * step_x;
    const long long at = ((long long)z * height + y) * width + x;
    const Dtype value = bias ? sum + bias[i] : sum;
    data[(long long)n * sample + (long long)i * channel + at] = relu ? rectified(value, slope) : value;
  }
};

// One phase of a correlation: the windows of a lattice, the taps that they have, and where the results go. A forward
// pass has one; the gradient of the data has one for each place modulo the stride, as other weights contribute there.
struct Phase {
  int taps_begin, taps;
  Lattice lattice;
  int out_z, out_y, out_x;
};

struct Geometry {  // what all phases have in common
  int samples, groups, phases;
  int in_channels, in_depth, in_height, in_width;  // channels of one group
  int out_channels, out_depth, out_height, out_width;
  int out_step_z, out_step_y, out_step_x;
  int weights_row, weights_group;
};

struct Setting {  // the part of the work that a block does
  Phase phase;
  Image image;
  Outputs out;
  const Dtype *weights;
  int windows;
};

__device__ __forceinline__ Setting setting(int block, const Geometry &g, const Phase *phases, const Dtype *x,
                                           const Dtype *w, const Dtype *bias, const bool relu, const Dtype slope,
                                           Dtype *y) {
  const int group = block / g.phases;
  const Phase phase = phases[block % g.phases];
  const Lattice &l = phase.lattice;
  const int in = g.in_channels * g.in_depth * g.in_height * g.in_width;
  const int channel = g.out_depth * g.out_height * g.out_width, out = g.out_channels * channel;
  const Image image = {x + (long long)group * in, in * g.groups, g.in_depth, g.in_height, g.in_width, l, Counter(l)};
  const Outputs outputs = {y + (long long)group * out,
                           bias ? bias + group * g.out_channels : bias,
                           relu,
                           slope,
                           out * g.groups,
                           channel,
                           g.out_height,
                           g.out_width,
                           phase.out_z,
                           phase.out_y,
                           phase.out_x,
                           g.out_step_z,
                           g.out_step_y,
                           g.out_step_x,
                           Counter(l)};
  return {phase, image, outputs, w + (long long)group * g.weights_group, g.samples * l.depth * l.height * l.width};
}

// Blocks: `across` tiles of windows (of the largest phase) x tiles of channels x groups, phases and shares. With few
// windows the taps are divided into shares: each share of the sum has a y of its own, one after the other, and `finish`
// adds them.
template <class T>
__device__ __forceinline__ void correlate(T &tile, const int across, const int shares, const Geometry *geometry, const Phase *phases,
                                          const Tap *taps, const Dtype *x, const Dtype *w, const Dtype *bias,
                                          const bool relu, const Dtype slope, Dtype *y) {
  const Geometry &g = *geometry;
  const Cell at(across, tiles(g.out_channels, T::BM));
  const int share = at.layer % shares, outputs = g.out_channels * g.out_depth * g.out_height * g.out_width;
  y += (long long)share * g.samples * g.groups * outputs;
  const Setting s = setting(at.layer / shares, g, phases, x, w, bias, relu, slope, y);
  if (at.column >= tiles(s.windows, T::BN)) return;
  taps += s.phase.taps_begin;
  const Weights weights = {s.weights, g.weights_row, taps};
  const Patches patches = {s.image, taps};
  const int length = (s.phase.taps + shares * T::BK - 1) / (shares * T::BK) * T::BK, begin = share * length;
  const int end = min(begin + length, s.phase.taps);
  multiply(tile, g.out_channels, s.windows, begin, end, at.row, at.column, weights, patches, s.out);
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    correlate_128(const int across, const int shares, const void *geometry, const void *phases, const void *taps, const Dtype *x,
                  const Dtype *w, const Dtype *bias, const bool relu, const Dtype slope, Dtype *y) {
  __shared__ Tile<128, 128, 8, 8, 8> tile;
  correlate(tile, across, shares, (const Geometry *)geometry, (const Phase *)phases, (const Tap *)taps, x, w, bias, relu, slope,
            y);
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    correlate_64(const int across, const int shares, const void *geometry, const void *phases, const void *taps, const Dtype *x,
                 const Dtype *w, const Dtype *bias, const bool relu, const Dtype slope, Dtype *y) {
  __shared__ Tile<64, 128, 8, 8, 4> tile;
  correlate(tile, across, shares, (const Geometry *)geometry, (const Phase *)phases, (const Tap *)taps, x, w, bias, relu, slope,
            y);
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    correlate_32(const int across, const int shares, const void *geometry, const void *phases, const void *taps, const Dtype *x,
                 const Dtype *w, const Dtype *bias, const bool relu, const Dtype slope, Dtype *y) {
  __shared__ Tile<32, 256, 8, 8, 4> tile;
  correlate(tile, across, shares, (const Geometry *)geometry, (const Phase *)phases, (const Tap *)taps, x, w, bias, relu, slope,
            y);
}

// n outputs: the sum of the shares, then what `Outputs` does.
__global__ void finish(const int n, const int shares, const int channels, const int places, const Dtype *partial,
                       const Dtype *bias, const bool relu, const Dtype slope, Dtype *y) {
  GRID_STRIDE(i, n) {
    Dtype value = bias ? bias[i / places % channels] : Dtype(0);
    for (int s = 0; s < shares; s++) value += partial[(long long)s * n + i];
    y[i] = relu ? rectified(value, slope) : value;
  }
}

// For few channels in a group (depthwise: one): each thread sums for one window of one channel.
// Blocks: `across` that share the windows x channels of a group x groups and phases.
__global__ void correlate_each(const int across, const void *geometry, const void *phases, const void *taps_of_all, const Dtype *x,
                               const Dtype *w, const Dtype *bias, const bool relu, const Dtype slope, Dtype *y) {
  const Geometry &g = *(const Geometry *)geometry;
  const Cell at(across, g.out_channels);
  const Setting s = setting(at.layer, g, (const Phase *)phases, x, w, bias, relu, slope, y);
  const Tap *taps = (const Tap *)taps_of_all + s.phase.taps_begin;
  const Dtype *weights = s.weights + (long long)at.row * g.weights_row;
  STRIDE(j, at.column * blockDim.x + threadIdx.x, s.windows, across * blockDim.x) {
    const Place place = s.image.place(j);
    Dtype sum = 0;
    for (int k = 0; k < s.phase.taps; k++) sum += weights[taps[k].y] * s.image.at(place, taps[k]);
    s.out(at.row, j, sum);
  }
}

// ---- the gradient of the weights: for each weight a sum over all windows ----

struct Gradients {  // element (i, k): channel i of window k of the output's diff
  static const bool ALONG_K = true;
  typedef const Dtype *Line;
  const Dtype *data;
  int sample, channel;
  Divisor windows;
  __device__ Line line(int i) const { return data + (long long)i * channel; }
  __device__ long long depth(int k) const {
    const int n = windows.quotient(k);
    return (long long)n * sample + (k - n * windows.by);
  }
  __device__ Dtype at(Line line, long long k) const { return line[k]; }
};

struct Samples {  // element (k, j): tap j of window k
  static const bool ALONG_K = true;
  typedef Tap Line;
  Image image;
  const Tap *taps;
  __device__ Line line(int j) const { return taps[j]; }
  __device__ Place depth(int k) const { return image.place(k); }
  __device__ Dtype at(const Tap &tap, const Place &p) const { return image.at(p, tap); }
};

struct Partial {  // one slice's share, a matrix of its own
  Dtype *data;
  int width;
  __device__ void operator()(int i, int j, Dtype sum) const { data[(long long)i * width + j] = sum; }
};

// Blocks: tiles of taps x tiles of channels x groups and slices; slice s sums the windows from s * slice on.
template <class T>
__device__ __forceinline__ void gather_weights(T &tile, const int slices, const int slice, const Geometry *geometry,
                                               const Phase *phases, const Tap *taps, const Dtype *x, const Dtype *dy,
                                               Dtype *partial) {
  const Geometry &g = *geometry;
  const Cell at(tiles(phases->taps, T::BN), tiles(g.out_channels, T::BM));
  const int group = at.layer / slices, share = at.layer % slices;
  const Setting s = setting(group, g, phases, x, 0, 0, false, 0, 0);
  const int channel = g.out_depth * g.out_height * g.out_width, out = g.out_channels * channel;
  const Gradients gradients = {dy + (long long)group * out, out * g.groups, channel, Divisor(channel)};
  const Samples samples = {s.image, taps};
  const int begin = share * slice, end = begin + min(slice, s.windows - begin), count = g.out_channels * s.phase.taps;
  const Partial store = {partial + ((long long)share * g.groups + group) * count, s.phase.taps};
  multiply(tile, g.out_channels, s.phase.taps, begin, end, at.row, at.column, gradients, samples, store);
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    weights_128(const int slices, const int slice, const void *geometry, const void *phases, const void *taps,
                const Dtype *x, const Dtype *dy, Dtype *partial) {
  __shared__ Tile<128, 128, 8, 8, 8> tile;
  gather_weights(tile, slices, slice, (const Geometry *)geometry, (const Phase *)phases, (const Tap *)taps, x, dy,
                 partial);
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    weights_64(const int slices, const int slice, const void *geometry, const void *phases, const void *taps,
               const Dtype *x, const Dtype *dy, Dtype *partial) {
  __shared__ Tile<64, 64, 16, 4, 4> tile;
  gather_weights(tile, slices, slice, (const Geometry *)geometry, (const Phase *)phases, (const Tap *)taps, x, dy,
                 partial);
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    weights_32(const int slices, const int slice, const void *geometry, const void *phases, const void *taps,
               const Dtype *x, const Dtype *dy, Dtype *partial) {
  __shared__ Tile<32, 128, 16, 4, 4> tile;
  gather_weights(tile, slices, slice, (const Geometry *)geometry, (const Phase *)phases, (const Tap *)taps, x, dy,
                 partial);
}

// Adds the slices' shares to the gradient, in their order: n weights.
__global__ void add_slices(const int n, const int slices, const Dtype *partial, Dtype *dw) {
  GRID_STRIDE(i, n) {
    Dtype sum = 0;
    for (int s = 0; s < slices; s++) sum += partial[(long long)s * n + i];
    dw[i] += sum;
  }
}

// For few channels in a group: one block sums over all windows for one weight, in the order of the weights.
__global__ void weights_each(const void *geometry, const void *phases, const void *taps, const Dtype *x,
                             const Dtype *dy, Dtype *dw) {
  const Geometry &g = *(const Geometry *)geometry;
  const Cell at(((const Phase *)phases)->taps, g.out_channels);
  const Setting s = setting(at.layer, g, (const Phase *)phases, x, 0, 0, false, 0, 0);
  const Tap tap = ((const Tap *)taps)[at.column];
  const int channel = g.out_depth * g.out_height * g.out_width, out = g.out_channels * channel;
  const Gradients gradients = {dy + (long long)at.layer * out, out * g.groups, channel, Divisor(channel)};
  const Dtype *line = gradients.line(at.row);
  Dtype sum = 0;
  BLOCK_STRIDE(k, s.windows) sum += line[gradients.depth(k)] * s.image.at(s.image.place(k), tap);
  sum = block_sum(sum);
  if (threadIdx.x == 0) dw[blockIdx.x] += sum;
}

// The shares of a bias's gradient: the sums of dy over places and a slice of the samples. Grid (channels, slices).
__global__ void bias_slices(const int samples, const int channels, const int places, const int slice, const Dtype *dy,
                            Dtype *partial) {
  const Divisor per_sample(places);
  const int begin = blockIdx.y * slice, count = (min(begin + slice, samples) - begin) * places;
  Dtype sum = 0;
  BLOCK_STRIDE(i, count) {
    const int n = per_sample.quotient(i);
    sum += dy[((long long)(begin + n) * channels + blockIdx.x) * places + (i - n * places)];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.y * channels + blockIdx.x] = sum;
}
