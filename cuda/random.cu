// The counters of random streams that live on the device.

// Takes `blocks` Philox blocks from a stream: state[0..2] (key, key, counter) is what this draw uses, state[3] what
// comes next.
__global__ void take_blocks(const unsigned long long blocks, unsigned long long *state) {
  state[2] = state[3];
  state[3] += blocks;
}

// The numbers themselves, as minicaffe.core.random.Stream.uniform_u32 gives them.
__global__ void uniform_u32(const int n, const unsigned long long *state, unsigned *out) {
  GRID_STRIDE(i, n) out[i] = philox_u32(state, i);
}
