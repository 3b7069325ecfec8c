"""Yolov3: the loss of one of YOLOv3's maps."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import logistic
from minicaffe.layers.shared.loss import DeviceTerms
from minicaffe.layers.shared.yolo_boxes import Overlap, read_anchors
from minicaffe.layers.shared.yolo_loss import YoloLoss
from minicaffe.proto.caffe_pb2 import Yolov3Parameter


@register("Yolov3")
class Yolov3(YoloLoss):
    """loss = sum of d d / N, where d are the steps below; the gradient is d / N, times the loss weight.

    bottoms: a map (N, B (5 + C), H, W), for each of B anchors x, y, w, h, the objectness, C classes; true boxes (N, 1,
        T, 5), rows (class, x, y, width, height) in fractions of the image, up to the first whose x or width is 0, as
        AnnotatedData gives them with yolo_data_type 1, or (1, 1, M, 8) as it gives them without (class 0 has label 1).
    top: the loss, one number.

    With the sigmoid s, the box of anchor (a, b) at column i and row j is ((i + s(x)) / W, (j + s(y)) / H,
    a e^w / (W anchors_scale), b e^h / (H anchors_scale)).
    Background: d of the objectness is its sigmoid p, unless the box overlaps a true one by more than thresh.
    A true box belongs, in the place of its centre, to the anchor of all maps whose shape overlaps its own most, if it
    is of this map, and to those of this map whose shape overlaps it by more than iou_thresh:
        d of x, y, w, h = coord_scale (2 - width height) times the difference from the code of the true box,
        d of the objectness = p - 1, d of a class = class_scale (p - t), t = 1 - e / 2 for its class, e / 2 for others
    Of several true boxes at one place and anchor the last counts; of its class alone, except for the first.
    Other iou_loss than MSE: d of x, y, w, h = -iou_normalizer times the slopes of the overlap (of w and h times e^w,
    e^h), at most max_delta; the loss has iou_normalizer times the mean of 1 - overlap in place of their squares.

    yolov3_param: num_class C 20, num B 5, anchors_scale 32, biases, mask, thresh 0.2, iou_thresh 0.5, coord_scale 5,
        class_scale 1, label_smooth_eps e 0.1, use_focal_loss false (d of classes times 0.5 (p - 1) (2 p log p + p - 1),
        p of the true class, e = 0), use_logic_gradient false (d but of w and h times s', object_scale 1), iou_loss MSE,
        iou_normalizer 0.25, max_delta 10, accumulate true.  side and noobject_scale have no effect.
    Source: Redmon and Farhadi, YOLOv3, 2018; Rezatofighi et al., Generalized intersection over union, 2019.
    """

    first_label = 1

    def setup(self, bottom, top):
        self.param = param = self.layer_param.yolov3_param
        mask = list(param.mask)
        if len(mask) != param.num or len(set(mask)) != len(mask):
            raise self.error(f"mask must give {param.num} different anchors, got {mask}")
        anchors = read_anchors(self, param.biases, range(len(param.biases) // 2))
        read_anchors(self, param.biases, mask)
        self.prepare(param.num_class, anchors, mask, param.anchors_scale, param.thresh)
        self.kind, self.by_overlap = param.iou_loss, param.iou_loss != Yolov3Parameter.MSE
        self.smooth = 0.0 if param.use_focal_loss else param.label_smooth_eps
        self.object_scale = param.object_scale if param.use_logic_gradient else 1.0
        self.terms = DeviceTerms(self.dtype)

    def chosen(self, truths, boxes):
        sizes, mask = self.sizes.data, self.mask.data.astype(int)
        shapes = [np.concatenate([np.zeros_like(size), size]) for size in (sizes.T, truths.box[2:])]
        overlap = Overlap(shapes[0][:, None], shapes[1][:, :, None], self.kind).value()  # (G, A)
        best = np.where(overlap.max(1) > 0, overlap.argmax(1), -1)
        return (best[:, None] == mask) | (overlap[:, mask] > self.param.iou_thresh) & (self.param.iou_thresh < 1)

    def learn(self, truths, learning, steps):
        (image, anchor, row, column), code = learning.at, learning.code.T.copy()
        size, true = self.sizes.data[self.mask.data.astype(int)][anchor].T, truths.box[:, learning.truth]
        height, width = self.view[3:]
        places, p = logistic(code[:2]), logistic(code[4:])
        grid, corner = np.array([[width], [height]]), np.stack([column, row])
        further = 0.0
        if self.by_overlap:
            boxes = np.concatenate([(places + corner) / grid, size * np.exp(code[2:4])]).astype(self.dtype)
            overlap = Overlap(boxes, true, self.kind)
            move = overlap.slopes() * self.param.iou_normalizer
            move[2:] *= np.exp(code[2:4])
            most = self.param.max_delta
            move = -np.clip(np.where(np.isfinite(move), move, 0), -most, most)
            further = self.param.iou_normalizer * (1 - overlap.value()).sum() / max(1, len(image))
        else:
            target = np.concatenate([true[:2] * grid - corner, np.log(true[2:] / size)])
            move = self.param.coord_scale * (2 - true[2] * true[3]) * (np.concatenate([places, code[2:4]]) - target)
        if self.by_overlap and self.param.accumulate:
            for each in range(4):
                np.add.at(steps, (image, anchor, each, row, column), move[each])
        else:
            steps[image, anchor, :4, row, column] = move.T
        steps[image, anchor, 4, row, column] = (p[0] - 1) * self.object_scale
        own = truths.label[learning.truth]
        self.learn_classes(learning, self._class_steps(p[1:].T, own, learning.first), own, steps)
        return further

    def _class_steps(self, p, own, first):
        """Return the steps (M, C) of classes from their probabilities."""
        target = np.full(p.shape, self.smooth / 2, p.dtype)
        at = np.arange(len(p)), own
        target[at] = 1 - self.smooth / 2
        rows = self.param.class_scale * (p - target)
        if self.param.use_focal_loss:
            sure = p[at] + 1e-15
            factor = 0.5 * (sure - 1) * (2 * sure * np.log(sure) + sure - 1)
            rows *= np.where(first, factor, 1)[:, None]
        return rows

    def squares(self, steps):
        counted = steps[:, :, 4:] if self.by_overlap else steps
        return (counted * counted).sum()

    def backward_cpu(self, top, propagate_down, bottom):
        super().backward_cpu(top, propagate_down, bottom)
        if propagate_down[0] and self.param.use_logic_gradient:
            x, dx = bottom[0].read_data().reshape(self.view), bottom[0].diff.reshape(self.view)
            for part in (slice(0, 2), slice(4, None)):
                p = logistic(x[:, :, part])
                dx[:, :, part] *= p * (1 - p)

    def learn_gpu(self, given, x, steps, top):
        param, (images, *_) = self.param, self.view
        n = self.diff.count
        terms, sums = self.terms.pointers(n + 2 * images)  # the second are not counted here
        scales = self.object_scale, param.class_scale, param.coord_scale, self.smooth
        rules = self.kind, param.iou_normalizer, param.iou_thresh, param.max_delta, param.accumulate
        results = steps, self.taken, self.wrong_label_gpu(self.classes), sums
        self.kernel("learn").launch(
            (images, 1), 64, images, *given, self.sizes.shape[0], *scales, *rules, param.use_focal_loss, x, *results
        )
        if not self.by_overlap:
            self.sum_squares_gpu(steps, top)
            return
        self.kernel("losses")(
            n + images, n, images, *self.view[2:4], self.view[4], param.iou_normalizer, steps, sums, terms
        )
        self.terms.finish(n + images, self.divisor(), top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        super().backward_gpu(top, propagate_down, bottom)
        if propagate_down[0] and self.param.use_logic_gradient:
            x, dx = bottom[0].gpu_data(), bottom[0].mutable_gpu_diff()
            self.kernel("multiply_slopes")(self.diff.count, self.view[2], self.view[3] * self.view[4], x, dx)
