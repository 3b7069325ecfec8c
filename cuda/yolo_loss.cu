// The part that YOLO's losses share.
#include "yolo.cuh"

// One thread for each of n places and anchors: the steps of background, 0 for all numbers but the objectness, and for it
// where the box overlaps a true one enough. Writes 0 to taken.
__global__ void background(const int n, const int anchors, const int numbers, const int height, const int width,
                           const Dtype *sizes, const Dtype *mask, const Dtype *labels, const int rows, const int columns,
                           const int first_label, const int kind, const Dtype threshold, const Dtype scale,
                           const bool sloped, const Dtype *x, Dtype *steps, unsigned char *taken) {
  const Map map = {anchors, numbers, height, width, sizes, mask};
  const Truths truths = {labels, rows, columns, first_label};
  GRID_STRIDE(i, n) {
    const int place = i % map.places(), anchor = i / map.places() % anchors, image = i / map.places() / anchors;
    const long long start = map.start(image, anchor, place);
    const Box box = map.box(x, image, anchor, place);
    Dtype best = 0, label;
    bool own;
    Box truth;
    for (int row = 0; truths.read(image, row, own, truth, label); row++)
      if (own) best = max(best, Overlap(box, truth, kind).value());
    for (int k = 0; k < numbers; k++) steps[start + (long long)k * map.places()] = 0;
    const Dtype p = logistic(x[start + 4 * map.places()]);
    if (!(best > threshold)) steps[start + 4 * map.places()] = scale * p * (sloped ? p * (1 - p) : Dtype(1));
    taken[i] = 0;
  }
}
