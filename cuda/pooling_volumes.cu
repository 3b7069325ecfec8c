// Maximum and average pooling over one to three spatial axes, with or without dilation: one thread for each output in
// forward, for each input in backward, so that no atomics are needed. pooling.cu is faster for pictures.
#include "window.cuh"

// One axis of a window.
struct Axis {
  int size, outputs, kernel, stride, pad, dilation;
  __device__ Axis(const Window &w, int a)
      : size(w.in[a]), outputs(w.out[a]), kernel(w.kernel[a]), stride(w.stride[a]), pad(w.pad[a]), dilation(w.dilation[a]) {}

  // The number of steps of `by` that cover a distance.
  __device__ static int steps(int distance, int by) { return by == 1 ? distance : (distance + by - 1) / by; }

  // The first place of a window inside, and the end of the places.
  __device__ int begin(int window) const {
    const int origin = window * stride - pad;
    return origin < 0 ? origin + steps(-origin, dilation) * dilation : origin;
  }
  __device__ int end(int window) const { return min(window * stride - pad + dilation * (kernel - 1) + 1, size); }
  // The places of a window within the padded picture.
  __device__ int extent(int window) const { return max(1, min(kernel, steps(size + 2 * pad - window * stride, dilation))); }

  // The windows that cover a place, if their elements are adjacent, and whether one has an element there.
  __device__ int first(int place) const { return steps(max(place + pad - dilation * (kernel - 1), 0), stride); }
  __device__ int last(int place) const { return min((place + pad) / stride, outputs - 1); }
  __device__ bool meets(int window, int place) const {
    return dilation == 1 || (place + pad - window * stride) % dilation == 0;
  }
};

// mask: the place of each maximum in its volume, the first in reading order; -1 (and the value 0) for a window outside.
// Without a mask y is the average; `whole`: the sum divided by the number of elements of a window.
__global__ void forward(const int n, const Window *windows, const int whole, const Dtype *x, Dtype *y, int *mask,
                        Dtype *top_mask) {
  const Window window = *windows;
  const Axis z(window, 0), v(window, 1), u(window, 2);
  GRID_STRIDE(i, n) {
    const int column = i % u.outputs, row = i / u.outputs % v.outputs, plane = i / u.outputs / v.outputs % z.outputs;
    const Dtype *volume = x + (long long)(i / window.out_count()) * window.in_count();
    Dtype value = 0;
    int best = -1;
    for (int d = z.begin(plane); d < z.end(plane); d += z.dilation)
      for (int h = v.begin(row); h < v.end(row); h += v.dilation)
        for (int w = u.begin(column); w < u.end(column); w += u.dilation) {
          const int place = (d * v.size + h) * u.size + w;
          if (!mask)
            value += volume[place];
          else if (best < 0 || volume[place] > value)
            value = volume[place], best = place;
        }
    if (!mask) value /= whole ? window.kernel_count() : z.extent(plane) * v.extent(row) * u.extent(column);
    y[i] = value;
    if (mask) mask[i] = best;
    if (top_mask) top_mask[i] = best;
  }
}

__global__ void backward(const int n, const Window *windows, const int whole, const Dtype *dy, const int *mask, Dtype *dx) {
  const Window window = *windows;
  const Axis z(window, 0), v(window, 1), u(window, 2);
  GRID_STRIDE(i, n) {
    const int places = window.in_count(), place = i % places;
    const int column = i % u.size, row = i / u.size % v.size, plane = i / u.size / v.size % z.size;
    const long long first = (long long)(i / places) * window.out_count();
    Dtype sum = 0;
    for (int d = z.first(plane); d <= z.last(plane); d++)
      for (int h = v.first(row); h <= v.last(row); h++)
        for (int w = u.first(column); w <= u.last(column); w++) {
          const long long at = first + (d * v.outputs + h) * u.outputs + w;
          if (mask)
            sum += mask[at] == place ? dy[at] : Dtype(0);
          else if (z.meets(d, plane) && v.meets(h, row) && u.meets(w, column))
            sum += dy[at] / (whole ? window.kernel_count() : z.extent(d) * v.extent(h) * u.extent(w));
        }
    dx[i] = sum;
  }
}
