// Concat and Slice: rows of a part, `length` numbers each, begin at `start` in the rows of the whole.

__global__ void put(const int n, const int length, const int whole, const int start, const Dtype *part, Dtype *out) {
  GRID_STRIDE(i, n) out[(long long)(i / length) * whole + start + i % length] = part[i];
}

__global__ void take(const int n, const int length, const int whole, const int start, const Dtype *in, Dtype *part) {
  GRID_STRIDE(i, n) part[i] = in[(long long)(i / length) * whole + start + i % length];
}
