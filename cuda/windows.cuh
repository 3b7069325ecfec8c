// Windows over an image, as minicaffe.cuda.windows lays them out: tables of 32-bit numbers, made when shapes change.
#include "divisor.cuh"

// A window: where its origin is (the first channel; it may lie in the padding, and is not read then), and a bit for each
// kind of element that is outside the image.
struct Place {
  const Dtype *data;
  unsigned outside;
};

// An element of a window: its distance from the origin, and the bits of its kinds: it is read if none of them is outside.
struct __align__(8) Tap {
  int offset;
  unsigned needs;
  __device__ bool is_in(const Place &place) const { return !(place.outside & needs); }
};

struct __align__(16) Step {  // one element of a window in as many channels as a step of a product takes
  Tap tap;                   // in the first of them
  int weight, unused;        // its place in a row; -1: none
};

const unsigned NO_WINDOW = ~0u;  // what is outside for a window that does not exist: every element

// One phase of a correlation: a lattice of (planes, rows, columns) of windows in each sample, the elements that they
// have, and where their results go.
struct Phase {
  int windows;                          // in all samples
  int taps, steps;                      // where its elements begin in the tables, in the order of (channel, element)
  int depth;                            // how many elements a window has, in all channels
  Divisor sample, plane, row;           // by the windows in each
  int origin, step_z, step_y, step_x;   // the first window's place in a channel of the image, and the next one's
  int outside_z, outside_y, outside_x;  // where the bits of each axis begin in the table
  int out, out_z, out_y, out_x;         // the place of the first window's result in a channel, and the next one's

  __device__ __forceinline__ void split(int i, int &n, int &a, int &b, int &c) const {  // sample, and place in the lattice
    n = sample.quotient(i), i -= n * sample.by;
    a = plane.quotient(i), i -= a * plane.by;
    b = row.quotient(i), c = i - b * row.by;
  }
  __device__ __forceinline__ Place place(int i, const Dtype *image, int sample_size, const unsigned *outside) const {
    if (i >= windows) return {image, NO_WINDOW};
    int n, a, b, c;
    split(i, n, a, b, c);
    const Dtype *data = image + (long long)n * sample_size + (origin + a * step_z + b * step_y + c * step_x);
    return {data, outside[outside_z + a] | outside[outside_y + b] | outside[outside_x + c]};
  }
  __device__ __forceinline__ int result(int i, int &n) const {  // of window i: its sample, and its place in a channel
    int a, b, c;
    split(i, n, a, b, c);
    return out + a * out_z + b * out_y + c * out_x;
  }
};

// One direction of a correlation. The tables follow in the same memory, at distances that it knows in 32-bit words.
struct Plan {
  int groups, phase_count;
  int in_channel, in_group, in_sample;     // elements in a channel of the image, in a group's channels, in a sample
  int out_channels;                        // of a group
  int out_channel, out_group, out_sample;  // elements of the result
  int weights_row, weights_group, weights_channel;  // between the weights of the result's channels, groups, image's channels
  int phases_at, taps_at, weights_at, outside_at, steps_at;

  __device__ const Phase *phases() const { return (const Phase *)((const int *)this + phases_at); }
  __device__ const Tap *taps() const { return (const Tap *)((const int *)this + taps_at); }
  __device__ const int *weights() const { return (const int *)this + weights_at; }  // each element's place in a row; or -1
  __device__ const Step *steps() const { return (const Step *)((const int *)this + steps_at); }
  __device__ const unsigned *outside() const { return (const unsigned *)this + outside_at; }
};
