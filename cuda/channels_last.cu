// Conversions to and from channels-last arrays, and elementwise work on them.
#include "channels_last.cuh"

// ---- conversions: one block for each tile of C channels and P places, through shared memory; both sides are coalesced.

template <int C, int P>
__device__ void to_last_tile(const int channels, const int places, const int across, const int down, const float *x,
                             Element *y) {
  __shared__ float tile[C][P + 1];
  const int first = blockIdx.x % across * P, channel = blockIdx.x / across % down * C;
  const int padded = (channels + VECTOR - 1) / VECTOR * VECTOR;
  const long long sample = blockIdx.x / across / down;
  x += (sample * channels + channel) * places + first;
  y += (sample * places + first) * padded + channel;
  if (places % 4 == 0) {
    BLOCK_STRIDE(i, C * P / 4) {
      const int c = i / (P / 4), p = i % (P / 4) * 4;
      Four four = {};
      if (channel + c < channels && first + p < places) four = *(const Four *)(x + (long long)c * places + p);
#pragma unroll
      for (int k = 0; k < 4; k++) tile[c][p + k] = four.v[k];
    }
  } else {
    BLOCK_STRIDE(i, C * P) {
      const int c = i / P, p = i % P;
      tile[c][p] = channel + c < channels && first + p < places ? x[(long long)c * places + p] : 0.0f;
    }
  }
  __syncthreads();
  BLOCK_STRIDE(i, C / VECTOR * P) {
    const int c = i % (C / VECTOR) * VECTOR, p = i / (C / VECTOR);
    if (channel + c < padded && first + p < places) {
      Eight values;
#pragma unroll
      for (int k = 0; k < VECTOR; k++) values.v[k] = tile[c + k][p];
      store(y + (long long)p * padded + c, values);
    }
  }
}

template <int C, int P>
__device__ void from_last_tile(const int channels, const int places, const int across, const int down, const Element *x,
                               float *y) {
  __shared__ float tile[C][P + 1];
  const int first = blockIdx.x % across * P, channel = blockIdx.x / across % down * C;
  const int padded = (channels + VECTOR - 1) / VECTOR * VECTOR;
  const long long sample = blockIdx.x / across / down;
  x += (sample * places + first) * padded + channel;
  y += (sample * channels + channel) * places + first;
  BLOCK_STRIDE(i, C / VECTOR * P) {
    const int c = i % (C / VECTOR) * VECTOR, p = i / (C / VECTOR);
    if (channel + c < padded && first + p < places) {
      const Eight values = load(x + (long long)p * padded + c);
#pragma unroll
      for (int k = 0; k < VECTOR; k++) tile[c + k][p] = values.v[k];
    }
  }
  __syncthreads();
  if (places % 4 == 0) {
    BLOCK_STRIDE(i, C * P / 4) {
      const int c = i / (P / 4), p = i % (P / 4) * 4;
      if (channel + c < channels && first + p < places) {
        Four four;
#pragma unroll
        for (int k = 0; k < 4; k++) four.v[k] = tile[c][p + k];
        *(Four *)(y + (long long)c * places + p) = four;
      }
    }
  } else {
    BLOCK_STRIDE(i, C * P) {
      const int c = i / P, p = i % P;
      if (channel + c < channels && first + p < places) y[(long long)c * places + p] = tile[c][p];
    }
  }
}

__global__ void to_last(const int channels, const int places, const int across, const int down, const float *x, Element *y) {
  to_last_tile<64, 64>(channels, places, across, down, x, y);
}

__global__ void to_last_narrow(const int channels, const int places, const int across, const int down, const float *x,
                               Element *y) {
  to_last_tile<8, 512>(channels, places, across, down, x, y);
}

__global__ void from_last(const int channels, const int places, const int across, const int down, const Element *x,
                          float *y) {
  from_last_tile<64, 64>(channels, places, across, down, x, y);
}

__global__ void from_last_narrow(const int channels, const int places, const int across, const int down, const Element *x,
                                 float *y) {
  from_last_tile<8, 512>(channels, places, across, down, x, y);
}

// ---- elementwise, over n vectors

__global__ void rectify(const int n, const float slope, const Element *x, Element *y) {
  GRID_STRIDE(i, n) {
    Eight values = load(x + (long long)i * VECTOR);
#pragma unroll
    for (int k = 0; k < VECTOR; k++) values.v[k] = rectified(values.v[k], slope);
    store(y + (long long)i * VECTOR, values);
  }
}

// y = alpha a + beta b, then the ReLU if there is one.
__global__ void sum(const int n, const float alpha, const Element *a, const float beta, const Element *b, const bool relu,
                    const float slope, Element *y) {
  GRID_STRIDE(i, n) {
    Eight values = load(a + (long long)i * VECTOR);
    const Eight others = load(b + (long long)i * VECTOR);
#pragma unroll
    for (int k = 0; k < VECTOR; k++) {
      values.v[k] = alpha * values.v[k] + beta * others.v[k];
      if (relu) values.v[k] = rectified(stored(values.v[k]), slope);
    }
    store(y + (long long)i * VECTOR, values);
  }
}

__global__ void multiply(const int n, const float alpha, const Element *x, Element *y) {
  GRID_STRIDE(i, n) {
    Eight values = load(x + (long long)i * VECTOR);
#pragma unroll
    for (int k = 0; k < VECTOR; k++) values.v[k] *= alpha;
    store(y + (long long)i * VECTOR, values);
  }
}

// The gradients of a blob's readers, one or two (second: null), times the ReLU's by the signs of y, if there is one.
__global__ void add_gradients(const int n, const float slope, const Element *y, const Element *first,
                              const Element *second, Element *dx) {
  GRID_STRIDE(i, n) {
    Eight gradient = load(first + (long long)i * VECTOR);
    if (second) {
      const Eight other = load(second + (long long)i * VECTOR);
#pragma unroll
      for (int k = 0; k < VECTOR; k++) gradient.v[k] = stored(gradient.v[k] + other.v[k]);
    }
    if (y) {
      const Eight values = load(y + (long long)i * VECTOR);
#pragma unroll
      for (int k = 0; k < VECTOR; k++)
        if (!(values.v[k] > 0)) gradient.v[k] *= slope;
    }
    store(dx + (long long)i * VECTOR, gradient);
  }
}

// ---- Concat: n vectors, in rows of `vectors`, are in rows of `whole` vectors from the `first` one on

__global__ void put(const int n, const int vectors, const int whole, const int first, const Element *x, Element *y) {
  GRID_STRIDE(i, n) {
    const int row = i / vectors;
    store(y + ((long long)row * whole + first + i - row * vectors) * VECTOR, load(x + (long long)i * VECTOR));
  }
}

__global__ void take(const int n, const int vectors, const int whole, const int first, const Element *dy, Element *dx) {
  GRID_STRIDE(i, n) {
    const int row = i / vectors;
    store(dx + (long long)i * VECTOR, load(dy + ((long long)row * whole + first + i - row * vectors) * VECTOR));
  }
}
