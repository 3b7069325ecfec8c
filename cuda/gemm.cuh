// The core of every matrix product: tiles of A and B pass through shared memory into registers.
//
// A block of THREADS threads computes a BM x BN tile of the product, each thread TM x TN numbers of it, in steps of BK
// along k. While one step is multiplied the next one is on its way from device memory, into the other half of the
// buffers. Operands are objects, so that a convolution can gather its patches where a matrix has rows:
//
//   T operator()(int row, int k)   (of the second operand: (int k, int column)), called inside the matrix only
//   bool along_k()                 whether neighbours along k are neighbours in memory: decides which thread loads
//   which
//
// and store(row, column, sum) receives the results.

const int THREADS = 256;

template <int BM, int BN, int BK, int TM, int TN, class A, class B, class Store>
__device__ __forceinline__ void multiply(int m, int n, int k_begin, int k_end, int tile_row, int tile_column,
                                         const A &a, const B &b, const Store &store) {
  static_assert((BM / TM) * (BN / TN) == THREADS, "each thread owns TM x TN of the BM x BN tile");
  static_assert(BM * BK % THREADS == 0 && BN * BK % THREADS == 0, "threads share the loading evenly");
  const int LOADS_A = BM * BK / THREADS, LOADS_B = BN * BK / THREADS;
  const int row0 = tile_row * BM, column0 = tile_column * BN;
  const int thread = threadIdx.x, tx = thread % (BN / TN), ty = thread / (BN / TN);
  const bool a_along_k = a.along_k(), b_along_k = b.along_k();
  __shared__ __align__(16) Dtype tile_a[2][BK][BM + 4];  // + 4: storing along k meets no bank twice
  __shared__ __align__(16) Dtype tile_b[2][BK][BN + 4];
  Dtype next_a[LOADS_A], next_b[LOADS_B];
  Dtype sums[TM][TN];
#pragma unroll
  for (int i = 0; i < TM; i++)
#pragma unroll
    for (int j = 0; j < TN; j++) sums[i][j] = 0;

  auto fetch = [&](int k0) {
#pragma unroll
    for (int i = 0; i < LOADS_A; i++) {
      const int e = thread + i * THREADS;
      const int k = k0 + (a_along_k ? e % BK : e / BM), row = row0 + (a_along_k ? e / BK : e % BM);
      next_a[i] = row < m && k < k_end ? a(row, k) : Dtype(0);
    }
#pragma unroll
    for (int i = 0; i < LOADS_B; i++) {
      const int e = thread + i * THREADS;
      const int k = k0 + (b_along_k ? e % BK : e / BN), column = column0 + (b_along_k ? e / BK : e % BN);
      next_b[i] = column < n && k < k_end ? b(k, column) : Dtype(0);
    }
  };
  auto keep = [&](int half) {
#pragma unroll
    for (int i = 0; i < LOADS_A; i++) {
      const int e = thread + i * THREADS;
      tile_a[half][a_along_k ? e % BK : e / BM][a_along_k ? e / BK : e % BM] = next_a[i];
    }
#pragma unroll
    for (int i = 0; i < LOADS_B; i++) {
      const int e = thread + i * THREADS;
      tile_b[half][b_along_k ? e % BK : e / BN][b_along_k ? e / BK : e % BN] = next_b[i];
    }
  };

  // A thread's rows (and columns) come in groups of four neighbours, the groups spread over the tile: its reads are
  // 16 bytes wide, and those of a warp touch each bank as seldom as possible.
  const int SPREAD_M = BM / TM * 4, SPREAD_N = BN / TN * 4;
  int half = 0;
  fetch(k_begin);
  keep(half);
  __syncthreads();
  for (int k0 = k_begin; k0 < k_end; k0 += BK) {
    const bool more = k0 + BK < k_end;
    if (more) fetch(k0 + BK);
#pragma unroll
    for (int k = 0; k < BK; k++) {
      Dtype row[TM], column[TN];
#pragma unroll
      for (int i = 0; i < TM; i++) row[i] = tile_a[half][k][i / 4 * SPREAD_M + ty * 4 + i % 4];
#pragma unroll
      for (int j = 0; j < TN; j++) column[j] = tile_b[half][k][j / 4 * SPREAD_N + tx * 4 + j % 4];
#pragma unroll
      for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++) sums[i][j] += row[i] * column[j];
    }
    if (more) keep(half ^ 1);
    __syncthreads();
    half ^= 1;
  }
#pragma unroll
  for (int i = 0; i < TM; i++)
#pragma unroll
    for (int j = 0; j < TN; j++) {
      const int r = row0 + i / 4 * SPREAD_M + ty * 4 + i % 4, c = column0 + j / 4 * SPREAD_N + tx * 4 + j % 4;
      if (r < m && c < n) store(r, c, sums[i][j]);
    }
}
