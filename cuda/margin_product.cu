// Products with an angular margin: x (samples, width), w (classes, width), y (samples, classes). shares is (3, samples):
// what the label's score has of w_l and of x in the gradient of x, and of w_l in that of w_l, besides x.

// ramp is the iteration and lambda.
__global__ void advance(const int n, const Dtype base, const Dtype gamma, const Dtype power, const Dtype least, Dtype *ramp,
                        Dtype *top) {
  GRID_STRIDE(i, n) {
    ramp[0] += 1;
    ramp[1] = max(base * pow(1 + gamma * ramp[0], -power), least);
    if (top) top[0] = ramp[1];
  }
}

// psi and its derivative at a cosine, for an angle that is multiplied by m.
__device__ __forceinline__ Dtype psi(Dtype c, int m, Dtype *slope) {
  int k = 0;
  for (int j = 1; j < m; j++) k += c <= cos(Dtype(j * 3.14159265358979323846 / m));
  Dtype value = c, derivative = 1;  // of the Chebyshev polynomial of degree m
  if (m == 2) value = 2 * c * c - 1, derivative = 4 * c;
  if (m == 3) value = (4 * c * c - 3) * c, derivative = 12 * c * c - 3;
  if (m == 4) value = 8 * c * c * (c * c - 1) + 1, derivative = (32 * c * c - 16) * c;
  const int sign = k % 2 ? -1 : 1;
  *slope = sign * derivative;
  return sign * value - 2 * k;
}

// One block for each sample. y is the product; the score of the label gets its margin.
__global__ void with_margin(const int samples, const int classes, const int width, const int m, const bool unit,
                            const Dtype least, const Dtype *ramp, const Dtype *x, const Dtype *w, const Dtype *labels,
                            Dtype *y, Dtype *shares) {
  const int sample = blockIdx.x, label = (int)labels[sample];
  const bool valid = label >= 0 && label < classes;
  Dtype xx = 0, ww = 0;
  if (valid) {
    BLOCK_STRIDE(k, width) {
      const Dtype a = x[(long long)sample * width + k], b = w[(long long)label * width + k];
      xx += a * a;
      ww += b * b;
    }
  }
  const Dtype of_x = max(sqrt(block_sum(xx)), least), of_w = max(sqrt(block_sum(ww)), least);
  if (threadIdx.x) return;
  const Dtype lambda = ramp[1];
  Dtype along_w = 1 + lambda, along_x = 0, own = 0;
  if (valid) {
    Dtype *score = y + (long long)sample * classes + label, slope;
    const Dtype c = max(Dtype(-1), min(Dtype(1), *score / (of_x * of_w))), value = psi(c, m, &slope);
    const Dtype rest = value - c * slope;
    const Dtype size = unit ? hypot(slope, rest / of_x) : Dtype(1);
    along_w = slope / size + lambda;
    along_x = rest / of_x / size * of_w;
    own = rest * of_x / of_w;
    *score = (lambda * *score + of_x * of_w * value) / (1 + lambda);
  }
  shares[sample] = along_w / (1 + lambda);
  shares[samples + sample] = along_x / (1 + lambda);
  shares[2 * samples + sample] = own / (1 + lambda);
}

__global__ void scale_labels(const int n, const int classes, const Dtype *labels, const Dtype *shares, Dtype *dy) {
  GRID_STRIDE(i, n) {
    const int label = (int)labels[i];
    if (label >= 0 && label < classes) dy[(long long)i * classes + label] *= shares[i];
  }
}

__global__ void add_along_x(const int n, const int samples, const int classes, const int width, const Dtype *labels,
                            const Dtype *shares, const Dtype *dy, const Dtype *x, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const int sample = i / width, label = (int)labels[sample];
    if (label >= 0 && label < classes) dx[i] += dy[(long long)sample * classes + label] * shares[samples + sample] * x[i];
  }
}

// One block for each class.
__global__ void add_own(const int samples, const int classes, const int width, const Dtype *labels, const Dtype *shares,
                        const Dtype *dy, const Dtype *w, Dtype *dw) {
  const int label = blockIdx.x;
  Dtype sum = 0;
  BLOCK_STRIDE(i, samples)
    if ((int)labels[i] == label) sum += dy[(long long)i * classes + label] * shares[2 * samples + i];
  sum = block_sum(sum);
  BLOCK_STRIDE(k, width) dw[(long long)label * width + k] += sum * w[(long long)label * width + k];
}
