// Division of numbers below 2^31 by a constant, as a multiplication and a shift; minicaffe.cuda.tables makes the numbers.
struct Divisor {
  int by;
  unsigned factor, shift;
  __device__ __forceinline__ int quotient(int n) const { return (int)((__umulhi(n, factor) + (unsigned)n) >> shift); }
};
