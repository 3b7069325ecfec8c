// Yolov3: what boxes learn from true boxes.
#include "yolo.cuh"

// One block for each of n images: its true boxes one after the other. sums: for each image the sum of 1 - overlap of the
// boxes that learn, and their number.
__global__ void learn(const int n, const int anchors, const int numbers, const int height, const int width,
                      const Dtype *sizes, const Dtype *mask, const Dtype *labels, const int rows, const int columns,
                      const int first_label, const int all_anchors, const Dtype object_scale, const Dtype class_scale,
                      const Dtype coord_scale, const Dtype smooth, const int kind, const Dtype normalizer,
                      const Dtype least_shape, const Dtype most, const bool accumulate, const bool focal, const Dtype *x,
                      Dtype *steps, unsigned char *taken, Dtype *wrong, Dtype *sums) {
  const Map map = {anchors, numbers, height, width, sizes, mask};
  const Truths truths = {labels, rows, columns, first_label};
  const int image = blockIdx.x, places = map.places(), classes = numbers - 5;
  Dtype missing = 0, count = 0, label;
  bool own;
  Box truth;
  for (int row = 0; truths.read(image, row, own, truth, label); row++) {
    if (!own) continue;
    const int own_class = (int)label;
    if (own_class < 0 || own_class >= classes) {
      if (threadIdx.x == 0) note_wrong(wrong, label);
      continue;
    }
    int best = -1;
    Dtype largest = 0;
    for (int a = 0; a < all_anchors; a++) {
      const Dtype overlap = shape_overlap(sizes[2 * a], sizes[2 * a + 1], truth, kind);
      if (overlap > largest) largest = overlap, best = a;
    }
    const int place = map.place_of(truth);
    for (int anchor = 0; anchor < anchors; anchor++) {
      const Dtype shape = shape_overlap(map.size(anchor, 0), map.size(anchor, 1), truth, kind);
      if ((int)mask[anchor] != best && !(least_shape < 1 && shape > least_shape)) continue;
      const long long start = map.start(image, anchor, place);
      const Dtype *code = x + start;
      Dtype *step = steps + start;
      unsigned char *flag = taken + ((long long)image * anchors + anchor) * places + place;
      const bool first = !*flag;
      __syncthreads();
      const Dtype p = logistic(code[(5 + own_class) * places]) + Dtype(1e-15);
      const Dtype factor = focal && first ? Dtype(0.5) * (p - 1) * (2 * p * log(p) + p - 1) : Dtype(1);
      BLOCK_STRIDE(c, classes) {
        if (!first && c != own_class) continue;
        const Dtype target = c == own_class ? 1 - smooth / 2 : smooth / 2;
        step[(5 + c) * places] = class_scale * (logistic(code[(5 + c) * places]) - target) * factor;
      }
      if (threadIdx.x == 0) {
        *flag = 1;
        step[4 * places] = (logistic(code[4 * places]) - 1) * object_scale;
        if (kind == MSE) {
          const Dtype scale = coord_scale * (2 - truth.size[0] * truth.size[1]);
          for (int k = 0; k < 2; k++) {
            step[k * places] = scale * (logistic(code[k * places]) - map.inside(truth, place, k));
            step[(2 + k) * places] = scale * (code[(2 + k) * places] - log(truth.size[k] / map.size(anchor, k)));
          }
        } else {
          const Overlap overlap(map.box(x, image, anchor, place), truth, kind);
          Dtype moves[4];
          overlap.slopes(moves);
          for (int k = 0; k < 4; k++) {
            Dtype move = moves[k] * normalizer * (k < 2 ? Dtype(1) : exp(code[k * places]));
            move = isfinite(move) ? -min(max(move, -most), most) : Dtype(0);
            step[k * places] = accumulate ? step[k * places] + move : move;
          }
          missing += 1 - overlap.value();
          count += 1;
        }
      }
      __syncthreads();
    }
  }
  if (threadIdx.x == 0) sums[2 * image] = missing, sums[2 * image + 1] = count;
}

// terms[i] for i < n_steps: the square of a step, 0 for those of boxes; behind, for each image, its share in normalizer *
// the mean of 1 - overlap, from the sums of `learn`. One thread for each of n = n_steps + images.
__global__ void losses(const int n, const int n_steps, const int images, const int numbers, const int height,
                       const int width, const Dtype normalizer, const Dtype *steps, const Dtype *sums, Dtype *terms) {
  GRID_STRIDE(i, n) {
    if (i < n_steps) {
      terms[i] = i / (height * width) % numbers < 4 ? Dtype(0) : steps[i] * steps[i];
    } else {
      Dtype count = 0;
      for (int image = 0; image < images; image++) count += sums[2 * image + 1];
      terms[i] = normalizer * sums[2 * (i - n_steps)] / max(count, Dtype(1));
    }
  }
}

// Multiplies the gradient by the slope of the sigmoid, but that of width and height.
__global__ void multiply_slopes(const int n, const int numbers, const int places, const Dtype *x, Dtype *dx) {
  GRID_STRIDE(i, n) {
    const int number = i / places % numbers;
    if (number == 2 || number == 3) continue;
    const Dtype p = logistic(x[i]);
    dx[i] *= p * (1 - p);
  }
}
