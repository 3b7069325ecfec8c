// DetectionLoss: YOLO v1's loss.
#include "yolo.cuh"

// One thread for each of n cells of all images. terms: (3, n), the loss of the cell's object, the loss of its other
// confidences, and whether there is an object.
__global__ void steps(const int n, const int side, const int classes, const int boxes, const bool roots,
                      const bool inside, const Dtype object_scale, const Dtype noobject_scale, const Dtype class_scale,
                      const Dtype coord_scale, const Dtype *x, const Dtype *labels, Dtype *diff, Dtype *wrong,
                      Dtype *terms) {
  const int cells = side * side;
  GRID_STRIDE(i, n) {
    const int cell = i % cells, image = i / cells, column = cell % side, row = cell / side;
    const long long start = (long long)image * cells * (classes + 5 * boxes) + cell;
    const Dtype *p = x + start, *given = labels + (long long)image * cells * 7;
    Dtype *d = diff + start;
    Dtype own = 0, others = 0;
    for (int k = 0; k < classes + 5 * boxes; k++) {
      const bool confidence = k >= classes && k < classes + boxes;
      d[k * cells] = confidence ? noobject_scale * p[k * cells] : Dtype(0);
      if (confidence) others += p[k * cells] * p[k * cells];
    }
    const bool is_object = given[cells + cell] != 0;
    const int label = is_object ? (int)given[2 * cells + cell] : 0;
    if (label < 0 || label >= classes) note_wrong(wrong, given[2 * cells + cell]);
    if (is_object) {
      const Dtype *t = given + 3 * cells + 4 * cell;
      const Box truth = {{t[0], t[1]}, {t[2], t[3]}};
      Dtype best = 0, nearest = 400;
      int chosen = 0;
      for (int k = 0; k < boxes; k++) {
        const Dtype *b = p + (classes + boxes + 4 * k) * cells;
        Box box = {{b[0], b[cells]}, {b[2 * cells], b[3 * cells]}};
        if (inside) box.at[0] = (column + box.at[0]) / side, box.at[1] = (row + box.at[1]) / side;
        Dtype far = 0;
        for (int e = 0; e < 2; e++) {
          if (roots) box.size[e] *= box.size[e];
          const Dtype at = box.at[e] - truth.at[e], size = box.size[e] - truth.size[e];
          far += at * at + size * size;
        }
        const Dtype overlap = Overlap(box, truth, IOU).value();
        if (overlap > best) best = overlap, chosen = k;
        else if (best == 0 && far < nearest) nearest = far, chosen = k;
      }
      for (int k = 0; k < classes; k++) {
        const Dtype miss = p[k * cells] - (k == label);
        d[k * cells] = class_scale * miss;
        own += class_scale * miss * miss;
      }
      const Dtype confidence = p[(classes + chosen) * cells];
      d[(classes + chosen) * cells] = object_scale * (confidence - best);
      own += object_scale * (confidence - 1) * (confidence - 1);
      others -= confidence * confidence;
      for (int e = 0; e < 4; e++) {
        const int at = (classes + boxes + 4 * chosen + e) * cells;
        Dtype target = t[e];
        if (inside && e < 2) target = target * side - (e ? row : column);
        if (roots && e >= 2) target = sqrt(target);
        d[at] = coord_scale * (p[at] - target);
        own += coord_scale * (p[at] - target) * (p[at] - target);
      }
    }
    terms[i] = own, terms[n + i] = noobject_scale * others, terms[2 * n + i] = is_object;
  }
}

// *loss = the losses of objects / their number + those of other confidences / their number. One block.
__global__ void total(const int n, const int boxes, const Dtype *terms, Dtype *loss) {
  Dtype own = 0, others = 0, count = 0;
  BLOCK_STRIDE(i, n) own += terms[i], others += terms[n + i], count += terms[2 * n + i];
  own = block_sum(own);
  others = block_sum(others);
  count = block_sum(count);
  if (threadIdx.x == 0) *loss = own / max(count, Dtype(1)) + others / max(Dtype(n) * boxes - count, Dtype(1));
}
