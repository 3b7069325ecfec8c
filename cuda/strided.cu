// Copies between a contiguous array and a strided view; geometry contains the view's lengths, then its strides.

__device__ __forceinline__ long long place_of(int i, const int axes, const int *geometry, const int start) {
  long long place = start;
  for (int axis = axes - 1; axis >= 0; axis--) {
    place += (long long)(i % geometry[axis]) * geometry[axes + axis];
    i /= geometry[axis];
  }
  return place;
}

__global__ void take(const int n, const int axes, const int *geometry, const int start, const Dtype *view, Dtype *out) {
  GRID_STRIDE(i, n) out[i] = view[place_of(i, axes, geometry, start)];
}

__global__ void put(const int n, const int axes, const int *geometry, const int start, const Dtype *in, Dtype *view) {
  GRID_STRIDE(i, n) view[place_of(i, axes, geometry, start)] = in[i];
}
