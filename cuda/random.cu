// The random numbers, equal to those of minicaffe.core.random.Stream.uniform_u32; without a ticket, those of the last draw.
__global__ void uniform_u32(const int n, unsigned long long *state, unsigned *ticket, unsigned *out) {
  GRID_STRIDE(i, n) out[i] = philox_u32(state, i, !ticket);
  if (ticket && last_block(ticket, gridDim.x) && threadIdx.x == 0) drawn(state, n);
}
