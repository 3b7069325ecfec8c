// A permutohedral lattice (layers/shared/permutohedral.py): x and y are (channels, points), values (channels, vertices).

// The sum over the points near a vertex; `entries` counts points and the corners of their simplices.
__global__ void splat(const int n, const int points, const int vertices, const int corners, const Dtype *x,
                      const Dtype *factors, const int *starts, const int *entries, const Dtype *weights, Dtype *values) {
  GRID_STRIDE(i, n) {
    const int vertex = i % vertices;
    const Dtype *row = x + (long long)(i / vertices) * points;
    Dtype sum = 0;
    for (int e = starts[vertex]; e < starts[vertex + 1]; e++) {
      const int point = entries[e] / corners;
      sum += weights[entries[e]] * row[point] * (factors ? factors[point] : Dtype(1));
    }
    values[i] = sum;
  }
}

__global__ void blur(const int n, const int vertices, const int direction, const int *neighbours, const Dtype *values,
                     Dtype *blurred) {
  GRID_STRIDE(i, n) {
    const int vertex = i % vertices, before = neighbours[2 * direction * vertices + vertex];
    const int behind = neighbours[(2 * direction + 1) * vertices + vertex];
    const Dtype *row = values + (i - vertex);
    Dtype sum = before < vertices ? row[before] : Dtype(0);
    if (behind < vertices) sum += row[behind];
    blurred[i] = row[vertex] + Dtype(0.5) * sum;
  }
}

__global__ void slice(const int n, const int points, const int vertices, const int corners, const int *vertex,
                      const Dtype *weights, const Dtype *factors, const Dtype *values, const Dtype factor, const bool add,
                      Dtype *y) {
  GRID_STRIDE(i, n) {
    const int point = i % points;
    const Dtype *row = values + (long long)(i / points) * vertices;
    Dtype sum = 0;
    for (int c = 0; c < corners; c++) sum += weights[point * corners + c] * row[vertex[point * corners + c]];
    sum *= factors ? factor * factors[point] : factor;
    y[i] = add ? y[i] + sum : sum;
  }
}
