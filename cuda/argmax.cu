// The value by which x is ranked: nan as minus infinity.
__device__ __forceinline__ Dtype rank(Dtype x) { return x == x ? x : log(Dtype(0)); }

// The top_k largest of each of n = outer * inner columns, largest first; of equal values the larger index first.
__global__ void largest(const int n, const int length, const int inner, const int top_k, const bool want_index,
                        const bool want_value, const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) {
    const Dtype *column = x + (long long)(i / inner) * length * inner + i % inner;
    const int kinds = want_index + want_value;
    Dtype *out = y + (long long)(i / inner) * kinds * top_k * inner + i % inner;
    int last = length;
    Dtype limit = 0;
    for (int place = 0; place < top_k; place++) {
      int best = -1;
      Dtype most = 0;
      for (int k = length - 1; k >= 0; k--) {
        const Dtype value = rank(column[(long long)k * inner]);
        const bool left = place == 0 || value < limit || (value == limit && k < last);
        if (left && (best < 0 || value > most)) best = k, most = value;
      }
      last = best, limit = most;
      if (want_index) out[(long long)place * inner] = last;
      if (want_value) out[(long long)(place + (want_index ? top_k : 0)) * inner] = column[(long long)last * inner];
    }
  }
}
