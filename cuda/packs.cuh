// Loops over elements that are loaded and stored four at a time: 16-byte accesses (of double: two each), at addresses
// that are multiples of 16 bytes.

const int PACK = 4;  // as in minicaffe.cuda.kernels

template <int WIDTH = PACK>
struct alignas(WIDTH == PACK ? 16 : sizeof(Dtype)) Pack {
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
  GRID_STRIDE(i, n / PACK) work.template at<PACK>(PACK * i);
  const int rest = n / PACK * PACK + blockIdx.x * blockDim.x + threadIdx.x;
  if (rest < n) work.template at<1>(rest);
}

// Whether all addresses are multiples of 16.
template <class... T>
__device__ __forceinline__ bool aligned(const T *...pointers) {
  return (((size_t)pointers | ...) & 15) == 0;
}

template <class F, class... Packs>
__device__ __forceinline__ Pack<> mapped(const F &f, const Packs... x) {
  Pack<> y;
#pragma unroll
  for (int j = 0; j < PACK; j++) y.v[j] = f(x.v[j]...);
  return y;
}

// y[i] = f(x[i], ...) for the i below n that are the share of thread `thread` of `threads`; y may be one of the x.
template <class F, class... X>
__device__ __forceinline__ void map_share(const int n, const unsigned thread, const unsigned threads, Dtype *y, const F &f,
                                          const X *...x) {
  const int packs = aligned(y, x...) ? n / PACK : 0;
  STRIDE(p, thread, packs, threads) ((Pack<> *)y)[p] = mapped(f, ((const Pack<> *)x)[p]...);
  STRIDE(i, packs * PACK + thread, n, threads) y[i] = f(x[i]...);
}

// y[i] = f(x[i], ...) for all i below n, divided among the grid; y may be one of the x.
template <class F, class... X>
__device__ __forceinline__ void map(const int n, Dtype *y, const F &f, const X *...x) {
  map_share(n, blockIdx.x * blockDim.x + threadIdx.x, blockDim.x * gridDim.x, y, f, x...);
}

// The sum of f(x[i], ...) over this thread's share of the i below n, divided among the grid.
template <class F, class... X>
__device__ __forceinline__ Dtype share_of_sum(const int n, const F &f, const X *...x) {
  const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x, threads = blockDim.x * gridDim.x;
  const int packs = aligned(x...) ? n / PACK : 0;
  Dtype sum = 0;
  STRIDE(p, thread, packs, threads) {
    const Pack<> terms = mapped(f, ((const Pack<> *)x)[p]...);
#pragma unroll
    for (int j = 0; j < PACK; j++) sum += terms.v[j];
  }
  STRIDE(i, packs * PACK + thread, n, threads) sum += f(x[i]...);
  return sum;
}
