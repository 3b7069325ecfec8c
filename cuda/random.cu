// The counters of random streams, which are in device memory.

// Takes `blocks` Philox blocks from a stream: state[0..2] (key, key, counter) are for this draw, state[3] is the
// counter of the next.
__global__ void take_blocks(const unsigned long long blocks, unsigned long long *state) {
  state[2] = state[3];
  state[3] += blocks;
}

// The random numbers, equal to those of minicaffe.philox.Stream.uniform_u32.
__global__ void uniform_u32(const int n, const unsigned long long *state, unsigned *out) {
  GRID_STRIDE(i, n) out[i] = philox_u32(state, i);
}
