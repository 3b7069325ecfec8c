// The gradient of a convolution's weights: for each weight a sum over all windows, as a product whose second operand is
// gathered from the image. minicaffe.cuda.convolution describes the method, minicaffe.cuda.windows makes the tables.
#include "gathered.cuh"
#include "windows.cuh"

struct Gradients {  // element (i, k): channel i of window k of the output's diff
  static const bool ALONG_K = true;
  typedef const Dtype *Line;
  const Dtype *data;
  int sample, channel;
  const Phase &phase;
  __device__ Line line(int i) const { return data + (long long)i * channel; }
  __device__ long long depth(int k) const {
    int n;
    const int place = phase.result(k, n);
    return (long long)n * sample + place;
  }
  __device__ Dtype at(Line line, long long k) const { return line[k]; }
};

struct Samples {  // element (k, j): element j of window k
  static const bool ALONG_K = true;
  typedef Tap Line;
  const Dtype *image;
  const Plan &plan;
  const Phase &phase;
  __device__ Line line(int j) const { return plan.taps()[phase.taps + j]; }
  __device__ Place depth(int k) const { return phase.place(k, image, plan.in_sample, plan.outside()); }
  __device__ Dtype at(const Tap &tap, const Place &place) const {
    return tap.is_in(place) ? place.data[tap.offset] : Dtype(0);
  }
};

struct Partial {  // one slice's share, a matrix of its own
  Dtype *data;
  int width;
  __device__ void operator()(int i, int j, Dtype sum) const { data[(long long)i * width + j] = sum; }
};

// Blocks: tiles of elements of a window x tiles of channels x groups and slices; slice s sums the windows from s * slice on.
template <class T>
__device__ __forceinline__ void gather_weights(T &tile, const int slices, const int slice, const Plan &plan,
                                               const Phase &phase, const Dtype *x, const Dtype *dy, Dtype *partial) {
  const Cell at(tiles(phase.depth, T::BN), tiles(plan.out_channels, T::BM));
  const int group = at.layer / slices, share = at.layer % slices;
  const Gradients gradients = {dy + (long long)group * plan.out_group, plan.out_sample, plan.out_channel, phase};
  const Samples samples = {x + (long long)group * plan.in_group, plan, phase};
  const int begin = share * slice, end = begin + min(slice, phase.windows - begin), count = plan.out_channels * phase.depth;
  const Partial store = {partial + ((long long)share * plan.groups + group) * count, phase.depth};
  multiply(tile, plan.out_channels, phase.depth, begin, end, at.row, at.column, gradients, samples, store);
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    weights_128(const int slices, const int slice, const void *plan, const int phase, const Dtype *x, const Dtype *dy,
                Dtype *partial) {
  __shared__ Tile<128, 128, 8, 8, 8> tile;
  gather_weights(tile, slices, slice, *(const Plan *)plan, ((const Plan *)plan)->phases()[phase], x, dy, partial);
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    weights_64(const int slices, const int slice, const void *plan, const int phase, const Dtype *x, const Dtype *dy,
               Dtype *partial) {
  __shared__ Tile<64, 64, 16, 4, 4> tile;
  gather_weights(tile, slices, slice, *(const Plan *)plan, ((const Plan *)plan)->phases()[phase], x, dy, partial);
}

__global__ void __launch_bounds__(THREADS, BLOCKS)
    weights_32(const int slices, const int slice, const void *plan, const int phase, const Dtype *x, const Dtype *dy,
               Dtype *partial) {
  __shared__ Tile<32, 128, 16, 4, 4> tile;
  gather_weights(tile, slices, slice, *(const Plan *)plan, ((const Plan *)plan)->phases()[phase], x, dy, partial);
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
__global__ void weights_each(const void *plan_at, const int phase_at, const Dtype *x, const Dtype *dy, Dtype *dw) {
  const Plan &plan = *(const Plan *)plan_at;
  const Phase &phase = plan.phases()[phase_at];
  const Cell at(phase.depth, plan.out_channels);
  const Samples samples = {x + (long long)at.layer * plan.in_group, plan, phase};
  const Gradients gradients = {dy + (long long)at.layer * plan.out_group, plan.out_sample, plan.out_channel, phase};
  const Dtype *line = gradients.line(at.row);
  const Tap tap = samples.line(at.column);
  Dtype sum = 0;
  BLOCK_STRIDE(k, phase.windows) sum += line[gradients.depth(k)] * samples.at(tap, samples.depth(k));
  sum = block_sum(sum);
  if (threadIdx.x == 0) dw[blockIdx.x] += sum;
}

// The shares of a bias's gradient: the sums of dy over places and a slice of the samples. Grid (channels, slices).
__global__ void bias_slices(const int samples, const int channels, const int places, const int slice, const Dtype *dy,
                            Dtype *partial) {
  const int begin = blockIdx.y * slice, count = (min(begin + slice, samples) - begin) * places;
  Dtype sum = 0;
  BLOCK_STRIDE(i, count) {
    const int n = i / places;
    sum += dy[((long long)(begin + n) * channels + blockIdx.x) * places + (i - n * places)];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.y * channels + blockIdx.x] = sum;
}
