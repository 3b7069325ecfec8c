// The end of losses: a sum divided by a number.

// *out = the sum over all threads of all blocks / *divisor, where the divisor is `fixed`, or if that is 0 the sum of
// `count`, at least 1. The last block adds the sums of all blocks; partial holds two numbers for each. All threads call.
__device__ __forceinline__ void finish_loss(Dtype sum, Dtype count, const Dtype fixed, Dtype *partial, unsigned *ticket,
                                            Dtype *divisor, Dtype *out) {
  sum = block_sum(sum);
  count = block_sum(count);
  if (threadIdx.x == 0) {
    partial[2 * blockIdx.x] = sum;
    partial[2 * blockIdx.x + 1] = count;
  }
  if (!last_block(ticket, gridDim.x)) return;
  sum = count = 0;
  BLOCK_STRIDE(i, gridDim.x) {
    sum += partial[2 * i];
    count += partial[2 * i + 1];
  }
  sum = block_sum(sum);
  count = block_sum(count);
  if (threadIdx.x) return;
  *divisor = fixed == 0 ? max(count, Dtype(1)) : fixed;
  *out = sum / *divisor;
}
