// Lstm: limits the absolute values of a gradient; nan stays.
__global__ void limit(const int n, const Dtype most, Dtype *dz) {
  GRID_STRIDE(i, n) dz[i] = dz[i] > most ? most : dz[i] < -most ? -most : dz[i];
}
