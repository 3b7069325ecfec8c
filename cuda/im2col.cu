// Im2col and its transpose, over one to three spatial axes; samples are contiguous.
#include "window.cuh"

// One thread for each element of the columns: (sample and channel, kernel place, output place).
__global__ void im2col(const int n, const int *shape, const Dtype *x, Dtype *columns) {
  const Window &w = *(const Window *)shape;
  const int out = w.out_count(), kernel = w.kernel_count();
  GRID_STRIDE(i, n) {
    const int place = w.input(i % out, i / out % kernel);
    columns[i] = place < 0 ? Dtype(0) : x[i / out / kernel * w.in_count() + place];
  }
}

// One thread for each element of x sums its copies.
__global__ void col2im(const int n, const int *shape, const Dtype *columns, Dtype *x) {
  const Window &w = *(const Window *)shape;
  const int in = w.in_count(), out = w.out_count(), kernel = w.kernel_count();
  GRID_STRIDE(i, n) {
    Dtype sum = 0;
    for (int k = 0; k < kernel; k++) {
      const int place = w.output(i % in, k);
      if (place >= 0) sum += columns[(i / in * kernel + k) * out + place];
    }
    x[i] = sum;
  }
}
