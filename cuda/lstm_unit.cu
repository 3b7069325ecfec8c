// The step of an LSTM, for N sequences of D numbers; the gates i, f, o, g are the quarters of each row of z.

__device__ __forceinline__ Dtype logistic(const Dtype x) { return Dtype(0.5) * tanh(Dtype(0.5) * x) + Dtype(0.5); }

// gates may be z: the activation is then in place.
__global__ void forward(const int n, const int size, const Dtype *z, const Dtype *cont, const Dtype *c_prev, Dtype *gates,
                        Dtype *c, Dtype *h) {
  GRID_STRIDE(at, n) {
    const int row = at / size, first = row * 4 * size + at % size;
    const Dtype i = logistic(z[first]), f = logistic(z[first + size]), o = logistic(z[first + 2 * size]);
    const Dtype g = tanh(z[first + 3 * size]);
    const Dtype value = cont[row] * f * c_prev[at] + i * g;
    gates[first] = i;
    gates[first + size] = f;
    gates[first + 2 * size] = o;
    gates[first + 3 * size] = g;
    c[at] = value;
    h[at] = o * tanh(value);
  }
}

// dz may be gates, and dc_prev may be dc (in place); either may be null if that gradient is not needed.
__global__ void backward(const int n, const int size, const Dtype *gates, const Dtype *cont, const Dtype *c_prev,
                         const Dtype *c, const Dtype *dc, const Dtype *dh, Dtype *dz, Dtype *dc_prev) {
  GRID_STRIDE(at, n) {
    const int row = at / size, first = row * 4 * size + at % size;
    const Dtype i = gates[first], f = gates[first + size], o = gates[first + 2 * size], g = gates[first + 3 * size];
    const Dtype tanh_c = tanh(c[at]), d = dc[at] + dh[at] * o * (1 - tanh_c * tanh_c);
    if (dz) {
      dz[first] = d * g * i * (1 - i);
      dz[first + size] = d * cont[row] * c_prev[at] * f * (1 - f);
      dz[first + 2 * size] = dh[at] * tanh_c * o * (1 - o);
      dz[first + 3 * size] = d * i * (1 - g * g);
    }
    if (dc_prev) dc_prev[at] = d * cont[row] * f;
  }
}
