// Statistics of the batches of all ranks (minicaffe.layers.shared.exchange), from one row for each: the count of values
// in a channel, the means of n channels, their sums of squared deviations.

struct Merged {
  double count, mean, variance;

  __device__ Merged(int c, int n, int ranks, const double *rows) : count(0), mean(0), variance(0) {
    const long long row = 1 + 2 * (long long)n;
    for (int r = 0; r < ranks; r++) {
      count += rows[r * row];
      mean += rows[r * row] * rows[r * row + 1 + c];
    }
    mean /= count;
    for (int r = 0; r < ranks; r++) {
      const double apart = rows[r * row + 1 + c] - mean;
      variance += rows[r * row + 1 + n + c] + rows[r * row] * apart * apart;
    }
    variance /= count;
  }
};
