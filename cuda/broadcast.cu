// Scale, Bias and PReLU: an operand that covers some axes of x = (outer, covered, inner).
//
// A block's threads form `threads / lanes` rows of `lanes`, a power of two: a row of x is `inner` numbers with one
// operand, so no thread needs a division to find it.

struct Place {
  int lane, row, rows;
  __device__ explicit Place(int lanes)
      : lane(threadIdx.x & (lanes - 1)), row(threadIdx.x / lanes), rows(blockDim.x / lanes) {}
};

// y = s x + b; s or b may be absent (null). `rows` is outer * covered.
__global__ void scale_bias(const int rows, const int covered, const int inner, const int lanes, const Dtype *x, const Dtype *s,
                           const Dtype *b, Dtype *y) {
  const Place place(lanes);
  STRIDE(row, blockIdx.x * place.rows + place.row, rows, gridDim.x * place.rows) {
    const Dtype scale = s ? s[row % covered] : Dtype(1), shift = b ? b[row % covered] : Dtype(0);
    const long long start = (long long)row * inner;
    STRIDE(k, blockIdx.y * lanes + place.lane, inner, gridDim.y * lanes)
      y[start + k] = scale * x[start + k] + shift;
  }
}

// y = v where x > 0, else slope v; v is x forward and dy backward.
__global__ void rectify(const int rows, const int covered, const int inner, const int lanes, const Dtype *x,
                        const Dtype *slopes, const Dtype *v, Dtype *y) {
  const Place place(lanes);
  STRIDE(row, blockIdx.x * place.rows + place.row, rows, gridDim.x * place.rows) {
    const Dtype slope = slopes[row % covered];
    const long long start = (long long)row * inner;
    STRIDE(k, blockIdx.y * lanes + place.lane, inner, gridDim.y * lanes)
      y[start + k] = x[start + k] > 0 ? v[start + k] : slope * v[start + k];
  }
}

// Sums over outer and inner of dy, dy x or dy min(x, 0): a block for each covered place and each part of its sum.
__global__ void partial_sums(const int outer, const int covered, const int inner, const int lanes, const Dtype *dy,
                             const Dtype *x, const bool negative, Dtype *partial) {
  const Place place(lanes);
  const int c = blockIdx.x, part = blockIdx.y, parts = gridDim.y;
  Dtype sum = 0;
  STRIDE(o, part * place.rows + place.row, outer, parts * place.rows) {
    const long long start = ((long long)o * covered + c) * inner;
    STRIDE(k, place.lane, inner, lanes) {
      const Dtype factor = !x ? Dtype(1) : negative ? min(x[start + k], Dtype(0)) : x[start + k];
      sum += dy[start + k] * factor;
    }
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[c * parts + part] = sum;
}

__global__ void total(const int n, const int parts, const Dtype *partial, const bool add, Dtype *out) {
  GRID_STRIDE(c, n) {
    Dtype sum = add ? out[c] : Dtype(0);
    for (int part = 0; part < parts; part++) sum += partial[c * parts + part];
    out[c] = sum;
  }
}
