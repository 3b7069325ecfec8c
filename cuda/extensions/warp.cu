// Warp, FlowWarp: reading a picture at positions, as minicaffe/layers/shared/sampler.py.

enum { ZEROS, EDGE, INSIDE };

// One coordinate of a position: its neighbours near and far with their weights, and what its slope is the difference of.
// Weights are 0 where a neighbour does not count.
struct Axis {
  int near, far, left, right;
  Dtype of_near, of_far, of_left, of_right;
  bool counts;

  __device__ Axis(Dtype position, int size, int border) {
    counts = position >= (border == ZEROS ? -1 : 0) &&
             (border == INSIDE ? position <= size - 1 : position < size);
    near = counts ? (int)floor(position) : 0;
    far = near + 1;
    const Dtype part = counts ? position - near : Dtype(0);
    left = near;
    right = far;
    Dtype share = 1;
    if (border != ZEROS) far = right = min(far, size - 1);
    if (border == INSIDE && part == 0) {
      left = max(near - 1, 0);
      share = Dtype(0.5);
    }
    of_near = counts && near >= 0 ? 1 - part : Dtype(0);
    of_far = counts && far < size ? part : Dtype(0);
    of_left = counts && left >= 0 ? -share : Dtype(0);
    of_right = counts && right < size ? share : Dtype(0);
  }

  // The weight of place p.
  __device__ Dtype weight(int p) const { return (p == near ? of_near : Dtype(0)) + (p == far ? of_far : Dtype(0)); }
};

// The position that a place of the top reads, in a sample's (2, height, width) of columns and rows.
struct Position {
  Axis rows, columns;
  __device__ Position(const Dtype *positions, int place, int height, int width, bool absolute, int border)
      : rows(positions[height * width + place] + (absolute ? 0 : place / width), height, border),
        columns(positions[place] + (absolute ? 0 : place % width), width, border) {}
  __device__ bool counts() const { return rows.counts && columns.counts; }
};

__device__ __forceinline__ Dtype term(const Dtype *x, int width, int row, Dtype of_row, int column, Dtype of_column) {
  const Dtype weight = of_row * of_column;
  return weight == 0 ? Dtype(0) : weight * x[row * width + column];
}

__global__ void forward(const int n, const int channels, const int height, const int width, const bool absolute,
                        const int border, const Dtype outside, const Dtype *x, const Dtype *positions, Dtype *y) {
  const int places = height * width;
  GRID_STRIDE(i, n) {
    const int plane = i / places;
    const Position at(positions + (long long)(plane / channels) * 2 * places, i % places, height, width, absolute, border);
    const Axis &r = at.rows, &c = at.columns;
    const Dtype *p = x + (long long)plane * places;
    y[i] = !at.counts() ? outside
                        : term(p, width, r.near, r.of_near, c.near, c.of_near) +
                              term(p, width, r.near, r.of_near, c.far, c.of_far) +
                              term(p, width, r.far, r.of_far, c.near, c.of_near) +
                              term(p, width, r.far, r.of_far, c.far, c.of_far);
  }
}

// The gradient to the positions; n: places of all samples.
__global__ void slopes(const int n, const int channels, const int height, const int width, const bool absolute,
                       const int border, const Dtype *x, const Dtype *positions, const Dtype *dy, Dtype *diff) {
  const int places = height * width;
  GRID_STRIDE(i, n) {
    const int sample = i / places, place = i % places;
    const long long start = (long long)sample * 2 * places;
    const Position at(positions + start, place, height, width, absolute, border);
    const Axis &r = at.rows, &c = at.columns;
    Dtype of_column = 0, of_row = 0;
    for (int k = 0; at.counts() && k < channels; k++) {
      const long long plane = ((long long)sample * channels + k) * places;
      const Dtype *p = x + plane, slope = dy[plane + place];
      of_column += slope * (term(p, width, r.near, r.of_near, c.left, c.of_left) +
                            term(p, width, r.near, r.of_near, c.right, c.of_right) +
                            term(p, width, r.far, r.of_far, c.left, c.of_left) +
                            term(p, width, r.far, r.of_far, c.right, c.of_right));
      of_row += slope * (term(p, width, r.left, r.of_left, c.near, c.of_near) +
                         term(p, width, r.left, r.of_left, c.far, c.of_far) +
                         term(p, width, r.right, r.of_right, c.near, c.of_near) +
                         term(p, width, r.right, r.of_right, c.far, c.of_far));
    }
    diff[start + place] = of_column;
    diff[start + places + place] = of_row;
  }
}

// Sorts the places of the top by the near row and column, which begin at -1, that they read. One warp works on one row of
// a sample; its places are order[slots[k + 1]] up to order[slots[k + 2]] for the near column k, in ascending order; `slots`
// are width + 3 numbers of each row.
__global__ void sort(const int channels, const int height, const int width, const bool absolute, const int border,
                     const Dtype *positions, int *starts, int *order) {
  const int places = height * width, lane = threadIdx.x, row = blockIdx.x % (height + 1) - 1;
  const long long sample = blockIdx.x / (height + 1);
  int *slots = starts + (long long)blockIdx.x * (width + 3);
  positions += sample * 2 * places;
  order += sample * places;
  STRIDE(k, lane, width + 3, 32) slots[k] = 0;
  __syncwarp();
  int before = 0;  // places with a near row above
  STRIDE(place, lane, places, 32) {
    const Position at(positions, place, height, width, absolute, border);
    if (!at.counts()) continue;
    before += at.rows.near < row;
    if (at.rows.near == row) atomicAdd(slots + at.columns.near + 3, 1);
  }
  before = warp_sum(before);
  __syncwarp();
  if (lane == 0) {
    slots[0] = slots[1] = before;
    for (int k = 2; k < width + 3; k++) slots[k] += slots[k - 1];
  }
  __syncwarp();
  for (int first = 0; first < places; first += 32) {
    int column = 0;
    bool mine = false;
    if (first + lane < places) {
      const Position at(positions, first + lane, height, width, absolute, border);
      mine = at.counts() && at.rows.near == row;
      column = at.columns.near;
    }
    for (unsigned left = __ballot_sync(0xffffffffu, mine); left; left &= left - 1) {
      const int from = __ffs(left) - 1, k = __shfl_sync(0xffffffffu, column, from);
      if (lane == 0) order[slots[k + 2]++] = first + from;
    }
  }
}

// The gradient to x: for each place those of the top that read it.
__global__ void gather(const int n, const int channels, const int height, const int width, const bool absolute,
                       const int border, const Dtype *positions, const int *starts, const int *order, const Dtype *dy,
                       Dtype *dx) {
  const int places = height * width;
  GRID_STRIDE(i, n) {
    const int w = i % width, h = i / width % height, plane = i / places, sample = plane / channels;
    const Dtype *own = positions + (long long)sample * 2 * places, *slopes = dy + (long long)plane * places;
    const int *listed = order + (long long)sample * places;
    Dtype sum = 0;
    for (int row = h - 1; row <= h; row++) {
      const int *slots = starts + ((long long)sample * (height + 1) + row + 1) * (width + 3) + w;
      for (int k = slots[0]; k < slots[2]; k++) {  // of the near columns w - 1 and w
        const Position at(own, listed[k], height, width, absolute, border);
        sum += at.rows.weight(h) * at.columns.weight(w) * slopes[listed[k]];
      }
    }
    dx[i] = sum;
  }
}
