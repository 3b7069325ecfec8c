// Four values at a time: 16-byte accesses (of double: two each), at addresses that are multiples of 16 bytes.

template <int WIDTH>
struct alignas(WIDTH == 4 ? 16 : sizeof(Dtype)) Pack {
  Dtype v[WIDTH];
};

template <int WIDTH>
__device__ __forceinline__ Pack<WIDTH> load(const Dtype *x) {
  return *(const Pack<WIDTH> *)x;
}

template <int WIDTH>
__device__ __forceinline__ void store(Dtype *x, const Pack<WIDTH> &values) {
  *(Pack<WIDTH> *)x = values;
}

// Calls work.at<WIDTH>(i) for this thread's share of the i in [0, n): four values each, and the last three one by one.
// Launched by `Kernel.packs`.
template <class Work>
__device__ __forceinline__ void in_packs(int n, const Work &work) {
  GRID_STRIDE(i, n / 4) work.template at<4>(4 * i);
  const int rest = n / 4 * 4 + blockIdx.x * blockDim.x + threadIdx.x;
  if (rest < n) work.template at<1>(rest);
}
