// Boxes of YOLO's maps, true boxes, and their overlaps, as layers/shared/yolo_boxes.py and yolo_loss.py define them.

__device__ __forceinline__ Dtype logistic(Dtype x) { return Dtype(0.5) * tanh(Dtype(0.5) * x) + Dtype(0.5); }

struct Box {  // for x and y: its centre and size, in fractions of the picture
  Dtype at[2], size[2];

  __device__ Dtype low(int k) const { return at[k] - size[k] / 2; }
  __device__ Dtype high(int k) const { return at[k] + size[k] / 2; }
};

__device__ __forceinline__ Dtype ratio(Dtype a, Dtype b) { return b == 0 ? Dtype(0) : a / b; }

enum Kind { IOU, GIOU, MSE, DIOU, CIOU };  // of Yolov3Parameter

struct Overlap {
  Box a, b;
  Dtype inner[2], hull[2], shared, both, iou;
  int kind;

  __device__ Overlap(const Box &a, const Box &b, int kind) : a(a), b(b), kind(kind) {
    for (int k = 0; k < 2; k++) {
      inner[k] = min(a.high(k), b.high(k)) - max(a.low(k), b.low(k));
      hull[k] = max(a.high(k), b.high(k)) - min(a.low(k), b.low(k));
    }
    if (!(inner[0] > 0 && inner[1] > 0)) inner[0] = inner[1] = 0;
    shared = inner[0] * inner[1];
    both = a.size[0] * a.size[1] + b.size[0] * b.size[1] - shared;
    iou = ratio(shared, both);
  }

  __device__ Dtype value() const {
    if (kind == GIOU) return iou - ratio(hull[0] * hull[1] - both, hull[0] * hull[1]);
    if (kind != DIOU && kind != CIOU) return iou;
    const Dtype value = iou - ratio(distance(), diagonal());
    if (kind == DIOU) return value;
    const Dtype v = aspect();
    return value - ratio(v, 1 - iou + v) * v;
  }

  // The steps for x, y, width and height of a that enlarge the overlap, see yolo_boxes.py.
  __device__ void slopes(Dtype (&steps)[4]) const {
    for (int k = 0; k < 2; k++) {
      const Dtype side = inner[1 - k], size = a.size[1 - k];
      const bool above = a.high(k) > b.high(k), below = a.low(k) < b.low(k);
      const Dtype at_high = a.high(k) < b.high(k) ? side : Dtype(0), at_low = a.low(k) > b.low(k) ? -side : Dtype(0);
      Dtype high = ratio(both * at_high - shared * (size - at_high), both * both);
      Dtype low = ratio(both * at_low - shared * (-size - at_low), both * both);
      if (kind == GIOU) {
        const Dtype area = hull[0] * hull[1], other = hull[1 - k];
        high += ratio(area * (size - at_high) - both * (above ? other : Dtype(0)), area * area);
        low += ratio(area * (-size - at_low) + both * (below ? other : Dtype(0)), area * area);
      }
      steps[k] = low + high;
      steps[2 + k] = high - low;
      if (kind == DIOU || kind == CIOU) {
        const Dtype by_high = above ? 2 * hull[k] : Dtype(0), by_low = below ? -2 * hull[k] : Dtype(0), d = diagonal();
        steps[k] -= ratio(2 * (a.at[k] - b.at[k]) * d - distance() * (by_high + by_low), d * d);
        steps[2 + k] += ratio(distance() * (by_high - by_low) / 2, d * d);
      }
    }
    if (kind == CIOU) {
      const Dtype v = aspect(), factor = ratio(v, 1 - iou + v) * Dtype(0.81056946913870217) * angle();
      steps[2] += factor * a.size[1];
      steps[3] -= factor * a.size[0];
    }
  }

 private:
  __device__ Dtype distance() const {
    const Dtype x = a.at[0] - b.at[0], y = a.at[1] - b.at[1];
    return x * x + y * y;
  }
  __device__ Dtype diagonal() const { return hull[0] * hull[0] + hull[1] * hull[1]; }
  __device__ Dtype angle() const { return atan2(b.size[0], b.size[1]) - atan2(a.size[0], a.size[1]); }
  __device__ Dtype aspect() const { return Dtype(0.40528473456935109) * angle() * angle(); }  // 4 / pi^2
};

// The true boxes: (images, rows, 5), which end with a row whose x or width is 0; or, of 8 columns, rows of boxes.
struct Truths {
  const Dtype *labels;
  int rows, columns, first_label;

  // Whether there is a row `row` of the image; `own`: whether it is a box of the image.
  __device__ bool read(int image, int row, bool &own, Box &box, Dtype &label) const {
    if (row >= rows) return false;
    own = true;
    if (columns == 5) {
      const Dtype *given = labels + ((long long)image * rows + row) * 5;
      label = given[0];
      for (int k = 0; k < 2; k++) box.at[k] = given[1 + k], box.size[k] = given[3 + k];
      return given[1] != 0 && given[3] != 0;
    }
    const Dtype *given = labels + (long long)row * 8;
    own = given[0] == image;
    label = given[1] - first_label;
    for (int k = 0; k < 2; k++) box.at[k] = (given[3 + k] + given[5 + k]) / 2, box.size[k] = given[5 + k] - given[3 + k];
    return true;
  }
};

// A map (images, anchors, numbers, height, width).
struct Map {
  int anchors, numbers, height, width;
  const Dtype *sizes, *mask;  // width and height of all anchors, in fractions of the picture; those of the map

  __device__ int places() const { return height * width; }
  // The index of number 0 of an anchor at a place; number k is k * places() behind it.
  __device__ long long start(int image, int anchor, int place) const {
    return ((long long)image * anchors + anchor) * numbers * places() + place;
  }
  // The place that holds the centre of a box.
  __device__ int place_of(const Box &box) const {
    const int column = min(max((int)(box.at[0] * width), 0), width - 1);
    return min(max((int)(box.at[1] * height), 0), height - 1) * width + column;
  }
  __device__ Dtype size(int anchor, int k) const { return sizes[2 * (int)mask[anchor] + k]; }
  __device__ Box box(const Dtype *x, int image, int anchor, int place) const {
    const Dtype *code = x + start(image, anchor, place);
    const int by[2] = {place % width, place / width}, length[2] = {width, height};
    Box box;
    for (int k = 0; k < 2; k++) {
      box.at[k] = (by[k] + logistic(code[k * places()])) / length[k];
      box.size[k] = size(anchor, k) * exp(code[(2 + k) * places()]);
    }
    return box;
  }
  // Where a true box is in its place, from 0 to 1.
  __device__ Dtype inside(const Box &box, int place, int k) const {
    return k ? box.at[1] * height - place / width : box.at[0] * width - place % width;
  }
};

// The overlap of the shapes of two boxes, as if their centres were one.
__device__ __forceinline__ Dtype shape_overlap(Dtype width, Dtype height, const Box &truth, int kind) {
  const Box a = {{0, 0}, {width, height}}, b = {{0, 0}, {truth.size[0], truth.size[1]}};
  return Overlap(a, b, kind).value();
}
