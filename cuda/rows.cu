// Gather and add rows of `width` elements by index.

__global__ void take(const int n, const int width, const int rows, const Dtype *numbers, const Dtype *table, Dtype *out) {
  GRID_STRIDE(i, n) {
    const int row = (int)numbers[i / width];
    out[i] = row >= 0 && row < rows ? table[(long long)row * width + i % width] : Dtype(nan(""));
  }
}

// The first index that refers to a row adds the values of all of them, so that the order of additions is fixed.
__global__ void add(const int n, const int width, const int rows, const int count, const Dtype *numbers, const Dtype *values,
                    Dtype *table) {
  GRID_STRIDE(i, n) {
    const int place = i / width, row = (int)numbers[place];
    bool first = row >= 0 && row < rows;
    for (int j = 0; first && j < place; j++) first = (int)numbers[j] != row;
    if (!first) continue;
    Dtype sum = 0;
    for (int j = place; j < count; j++)
      if ((int)numbers[j] == row) sum += values[(long long)j * width + i % width];
    table[(long long)row * width + i % width] += sum;
  }
}
