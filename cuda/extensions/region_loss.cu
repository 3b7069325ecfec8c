// RegionLoss: what boxes learn from true boxes.
#include "yolo.cuh"

// One block for each of n images: its true boxes one after the other. class_of: of each of n_labels labels; tree: for
// each class the first of its siblings, their number, and its parent, see yolo_classes.py.
__global__ void learn(const int n, const int anchors, const int numbers, const int height, const int width,
                      const Dtype *sizes, const Dtype *mask, const Dtype *labels, const int rows, const int columns,
                      const int first_label, const int n_labels, const Dtype *class_of, const Dtype *tree,
                      const Dtype object_scale, const Dtype class_scale, const Dtype coord_scale, const bool of_9000,
                      const bool by_anchors, const bool rescore, const Dtype *x, Dtype *steps, Dtype *wrong) {
  const Map map = {anchors, numbers, height, width, sizes, mask};
  const Truths truths = {labels, rows, columns, first_label};
  const int image = blockIdx.x, places = map.places(), classes = numbers - 5;
  Dtype label;
  bool own;
  Box truth;
  for (int row = 0; truths.read(image, row, own, truth, label); row++) {
    if (!own) continue;
    if ((int)label < 0 || (int)label >= n_labels) {
      if (threadIdx.x == 0) note_wrong(wrong, label);
      continue;
    }
    const int place = map.place_of(truth);
    int best = 0;
    Dtype largest = 0;
    for (int anchor = 0; anchor < anchors; anchor++) {
      const Box box = map.box(x, image, anchor, place);
      const Dtype w = by_anchors ? map.size(anchor, 0) : box.size[0], h = by_anchors ? map.size(anchor, 1) : box.size[1];
      const Dtype overlap = shape_overlap(w, h, truth, IOU);
      if (overlap > largest) largest = overlap, best = anchor;
    }
    const Dtype *code = x + map.start(image, best, place);
    Dtype *step = steps + map.start(image, best, place);
    for (int node = (int)class_of[(int)label]; node >= 0; node = (int)tree[2 * classes + node]) {
      const int start = 5 + (int)tree[node], end = start + (int)tree[classes + node];
      Dtype most = code[start * places], sum = 0;
      for (int k = start; k < end; k++) most = max(most, code[k * places]);
      for (int k = start; k < end; k++) sum += exp(code[k * places] - most);
      STRIDE(k, start + threadIdx.x, end, blockDim.x)
        step[k * places] = class_scale * (exp(code[k * places] - most) / sum - (k == 5 + node));
      __syncthreads();  // the group of the next node, or true box, may be the same
    }
    if (threadIdx.x == 0) {
      const Dtype p = logistic(code[4 * places]);
      const Dtype scale = of_9000 || rescore ? coord_scale : coord_scale * (2 - truth.size[0] * truth.size[1]);
      for (int k = 0; k < 2; k++) {
        const Dtype s = logistic(code[k * places]);
        step[k * places] = scale * (s - map.inside(truth, place, k)) * s * (1 - s);
        const Dtype d = code[(2 + k) * places] - log(truth.size[k] / map.size(best, k));
        step[(2 + k) * places] = scale * (of_9000 ? min(max(d, Dtype(-1)), Dtype(1)) : d);
      }
      const Dtype target = rescore ? Overlap(map.box(x, image, best, place), truth, IOU).value() : Dtype(1), q = 1 - p;
      step[4 * places] = object_scale * (of_9000 ? -2 * q * q * q : p - target) * p * q;
    }
  }
}
