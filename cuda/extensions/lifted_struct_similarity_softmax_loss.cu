// rows is (4, n): the sum S of exp(margin - D) over the samples of other classes; over the pairs of the sample the sum of
// J / (S_i + S_j) and that of J^2; their number.

// One warp for each (i, j).
__global__ void distances(const int n, const int width, const Dtype *x, Dtype *d) {
  const long long a = (long long)(blockIdx.x / n) * width, b = (long long)(blockIdx.x % n) * width;
  Dtype sum = 0;
  STRIDE(k, threadIdx.x, width, 32) {
    const Dtype difference = x[a + k] - x[b + k];
    sum += difference * difference;
  }
  sum = warp_sum(sum);
  if (threadIdx.x == 0) d[blockIdx.x] = sqrt(sum);
}

// One block for each sample.
__global__ void sums_of_others(const int n, const Dtype margin, const Dtype *labels, const Dtype *d, Dtype *rows) {
  const int i = blockIdx.x;
  Dtype sum = 0;
  BLOCK_STRIDE(k, n)
    if (labels[k] != labels[i]) sum += exp(margin - d[(long long)i * n + k]);
  sum = block_sum(sum);
  if (threadIdx.x == 0) rows[i] = sum;
}

// J of a pair, at least 0.
__device__ __forceinline__ Dtype lifted(Dtype distance, Dtype both) {
  const Dtype j = distance + log(both);
  return j < 0 ? Dtype(0) : j;
}

// One block for each sample.
__global__ void pairs(const int n, const Dtype *labels, const Dtype *d, Dtype *rows) {
  const int i = blockIdx.x;
  Dtype share = 0, loss = 0, count = 0;
  BLOCK_STRIDE(k, n) {
    if (k == i || labels[k] != labels[i] || !(rows[i] > 0)) continue;
    const Dtype both = rows[i] + rows[k], j = lifted(d[(long long)i * n + k], both);
    share += j / both;
    loss += j * j;
    count += 1;
  }
  share = block_sum(share);
  loss = block_sum(loss);
  count = block_sum(count);
  if (threadIdx.x) return;
  rows[n + i] = share;
  rows[2 * n + i] = loss;
  rows[3 * n + i] = count;
}

// One block; each pair is in two rows. rows[3 n] becomes the number of pairs, at least 1.
__global__ void loss(const int n, Dtype *rows, Dtype *out) {
  Dtype sum = 0, count = 0;
  BLOCK_STRIDE(i, n) {
    sum += rows[2 * n + i];
    count += rows[3 * n + i];
  }
  sum = block_sum(sum);
  count = block_sum(count) / 2;
  if (threadIdx.x) return;
  count = count < 1 ? Dtype(1) : count;
  rows[3 * n] = count;
  *out = sum / 2 / (2 * count);
}

__global__ void coefficients(const int total, const int n, const Dtype margin, const Dtype *labels, const Dtype *d,
                             const Dtype *rows, Dtype *c) {
  GRID_STRIDE(at, total) {
    const int i = at / n, k = at % n;
    const Dtype distance = d[at];
    Dtype slope = 0;
    if (labels[i] != labels[k])
      slope = -exp(margin - distance) * (rows[n + i] + rows[n + k]);
    else if (i != k && rows[i] > 0)
      slope = lifted(distance, rows[i] + rows[k]);
    c[at] = distance > 0 ? slope / (distance * rows[3 * n]) : Dtype(0);
  }
}

__global__ void gradient(const int total, const int n, const int width, const Dtype *weight, const Dtype *c, const Dtype *x,
                         Dtype *dx) {
  GRID_STRIDE(at, total) {
    const int i = at / width, k = at % width;
    Dtype sum = 0;
    for (int j = 0; j < n; j++) sum += c[(long long)i * n + j] * (x[at] - x[(long long)j * width + k]);
    dx[at] = *weight * sum;
  }
}
