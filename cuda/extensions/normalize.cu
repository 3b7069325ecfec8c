// Normalize: a vector is the channels at one place, or, across_spatial, the whole sample. A null scale means 1.

__device__ __forceinline__ int vector_of(int i, int channels, int places, int across) {
  const int sample = i / places / channels;
  return across ? sample : sample * places + i % places;
}

__device__ __forceinline__ Dtype scale_of(int i, int channels, int places, int shared, const Dtype *scale) {
  return scale ? scale[shared ? 0 : i / places % channels] : Dtype(1);
}

enum { SQUARES, ROOT, ABSOLUTE };

// One block for each vector: the sum of a b (or its root, or the sum of |a|) over the channels and `span` places.
__global__ void products(const int channels, const int places, const int span, const Dtype eps, const int kind,
                         const Dtype *a, const Dtype *b, Dtype *out) {
  const int vectors = places / span, sample = blockIdx.x / vectors, first = blockIdx.x % vectors;
  Dtype sum = 0;
  BLOCK_STRIDE(i, channels * span) {
    const long long at = ((long long)sample * channels + i / span) * places + first + i % span;
    sum += kind == ABSOLUTE ? fabs(a[at]) : a[at] * b[at];
  }
  sum = block_sum(sum) + eps;
  if (threadIdx.x == 0) out[blockIdx.x] = kind == ROOT ? sqrt(sum) : sum;
}

__global__ void forward(const int n, const int channels, const int places, const int shared, const int across, const Dtype *x,
                        const Dtype *length, const Dtype *scale, Dtype *y) {
  GRID_STRIDE(i, n)
  y[i] = x[i] / length[vector_of(i, channels, places, across)] * scale_of(i, channels, places, shared, scale);
}

__global__ void weighted(const int n, const int channels, const int places, const int shared, const int across,
                         const Dtype *dy, const Dtype *scale, Dtype *dx) {
  GRID_STRIDE(i, n) dx[i] = dy[i] * scale_of(i, channels, places, shared, scale);
}

// dx holds scale dy; along[v] is its product with x. dlength may be null; fixed: without the last division.
__global__ void backward(const int n, const int channels, const int places, const int shared, const int across,
                         const bool absolute, const bool fixed, const Dtype *dlength, const Dtype *x, const Dtype *length,
                         const Dtype *along, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const int v = vector_of(i, channels, places, across);
    const Dtype slope = absolute ? Dtype((x[i] > 0) - (x[i] < 0)) : x[i] / length[v];
    const Dtype tangent = dx[i] - slope * along[v] / length[v];
    dx[i] = (fixed ? tangent : tangent / length[v]) + (dlength ? slope * dlength[v] : Dtype(0));
  }
}

// One block for each scale; `count` is samples times places.
__global__ void scale_gradient(const int count, const int channels, const int places, const int shared, const int across,
                               const Dtype *x, const Dtype *dy, const Dtype *length, Dtype *dscale) {
  const int total = shared ? count * channels : count;
  Dtype sum = 0;
  BLOCK_STRIDE(i, total) {
    const int at = shared ? i : (i / places * channels + blockIdx.x) * places + i % places;
    sum += dy[at] * x[at] / length[vector_of(at, channels, places, across)];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) dscale[blockIdx.x] += sum;
}
