// The counters of random streams that live on the device.

// Takes `blocks` Philox blocks from a stream: state[0..2] (key, key, counter) is what this draw uses, state[3] what comes next.
__global__ void take_blocks(const unsigned long long blocks, unsigned long long *state) {
  state[2] = state[3];
  state[3] += blocks;
}
