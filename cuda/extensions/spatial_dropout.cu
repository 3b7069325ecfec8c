// y = x * scale in the maps whose random number is above the threshold, else 0. A map has `size` numbers. Without a
// ticket the numbers are those of the last draw.
__global__ void drop(const int n, const int size, const int maps, unsigned long long *state, unsigned *ticket,
                     const unsigned threshold, const Dtype scale, const Dtype *x, Dtype *y) {
  GRID_STRIDE(i, n) y[i] = philox_u32(state, i / size, !ticket) > threshold ? x[i] * scale : Dtype(0);
  if (ticket && last_block(ticket, gridDim.x) && threadIdx.x == 0) drawn(state, maps);
}
