"""EvalDetection: compares the boxes of YOLO v1 or v2 with the true ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.boxes import largest, overlaps, suppress
from minicaffe.layers.shared.elementwise import logistic
from minicaffe.layers.shared.loss import class_labels
from minicaffe.layers.shared.softmax import softmax
from minicaffe.layers.shared.views import truncated
from minicaffe.layers.shared.yolo_boxes import check_map, corners, decode, read_anchors
from minicaffe.layers.shared.yolo_cells import Cells
from minicaffe.proto.caffe_pb2 import EvalDetectionParameter

_LEAST = 0.005  # score that a box of v2 must exceed


class _Boxes(NamedTuple):
    """Boxes of an image, predicted or true."""

    label: np.ndarray  #: (n,)
    score: np.ndarray  #: (n,); of true boxes whether they count
    corners: np.ndarray  #: (n, 4)

    def take(self, rows: np.ndarray) -> _Boxes:
        """Return some of the boxes."""
        return _Boxes(self.label[rows], self.score[rows], self.corners[rows])


@register("EvalDetection")
class EvalDetection(Layer):
    """Which predicted boxes are right, from which a script computes average precision.

    bottoms, v1: predictions (N, S S (C + 5 B)) and labels (N, 7 S S) as of DetectionLoss; v2, with biases: a map (N,
        B (5 + C), S, S) as of RegionLoss, and true boxes (1, 1, M, 8) as AnnotatedData gives them (class 0 is label 1).
        A third one, of images, is not read.
    top: (N, C + 4 S S B): of each image the number of true boxes of each class, then for each predicted box, by class,
        the best first: class, score, right, wrong; then zeros

    v1: a box has the best class of its cell.  v2: a box is a candidate for every class whose probability times
    objectness is above 0.005.  The score is that product, or one of both, see score_type.  With nms >= 0, a candidate
    is dropped that overlaps a better one by as much: in v1 of any class, in v2 of its own.  A candidate belongs to the
    true box of its class that it overlaps most, if by threshold or more.  The best one of a true box is right, all
    others are wrong, but those of a difficult box, which v1 has, are neither.

    eval_detection_param: side S 7, num_class C 20, num_object B 2, threshold 0.5, score_type MULTIPLY, nms -1, biases
        (the anchors, in places of the map); v1: sqrt true, constriant true (see DetectionLoss).  save_output_param has
        no effect.
    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Redmon et al., You only look once, 2016; Redmon and Farhadi, YOLO9000, 2017.
    """

    fork = "YOLO"
    family = "loss"
    min_bottom, max_bottom = 2, 3
    exact_num_top = 1
    in_place = False
    backward_reads = ()
    capturable = False  # works on the host

    def setup(self, bottom, top):
        self.param = param = self.layer_param.eval_detection_param
        self.cells = Cells.of(self, param)
        self.sizes = None
        if param.biases:
            self.sizes = read_anchors(self, param.biases, range(self.cells.boxes)) / self.cells.side

    def top_shapes(self, bottom_shapes):
        x, labels = bottom_shapes[:2]
        side, classes, boxes = self.cells[:3]
        if self.sizes is None:
            self.cells.check(self, x, labels)
        else:
            check_map(self, 0, x, boxes, 5 + classes)
            if x[2:] != (side, side) or len(labels) != 4 or labels[:2] != (1, 1) or labels[3] != 8:
                raise self.error(
                    f"bottoms 0 and 1 must be a map ({x[0]}, {x[1]}, {side}, {side}) and true boxes (1, 1, M, 8), got "
                    f"{x} and {labels}"
                )
        return [(x[0], classes + 4 * side * side * boxes)]

    def forward_cpu(self, bottom, top):
        x, labels = (blob.read_data() for blob in bottom[:2])
        predicted, true = self._of_cells(x, labels) if self.sizes is None else self._of_map(x, labels, self.sizes)
        classes = self.cells.classes
        top[0].data[...] = 0
        for row, own, truths in zip(top[0].data, predicted, true):
            class_labels(self, truths.label, classes)
            row[:classes] = np.bincount(truths.label[truths.score > 0], minlength=classes)
            rows = np.concatenate([self._judged(own, truths, label) for label in range(classes)])
            rows = rows[np.sort(largest(rows[:, 1], (len(row) - classes) // 4))]
            row[classes : classes + rows.size] = rows.ravel()

    def _judged(self, predicted: _Boxes, true: _Boxes, label: int) -> np.ndarray:
        """Return the rows of one class, the best first."""
        own, true = predicted.take(predicted.label == label), true.take(true.label == label)
        own = own.take(largest(own.score))
        right, wrong = np.zeros(len(own.label)), np.ones(len(own.label))
        if len(own.label) and len(true.label):
            shared = overlaps(own.corners.T, true.corners.T)
            best = shared.argmax(1)
            hit, counts = shared.max(1) >= self.param.threshold, true.score[best] > 0
            candidates = np.flatnonzero(hit & counts)
            right[candidates[np.unique(best[candidates], return_index=True)[1]]] = 1
            wrong = (~hit | (counts & (right == 0))).astype(float)
        return np.column_stack([np.full(len(own.label), label), own.score, right, wrong])

    def _score(self, confidence, probability):
        kind = self.param.score_type
        if kind == EvalDetectionParameter.OBJ:
            return np.broadcast_to(confidence, probability.shape)
        return probability if kind == EvalDetectionParameter.PROB else confidence * probability

    def _kept(self, boxes: _Boxes) -> _Boxes:
        """Return the candidates that no better one drops, the best first."""
        boxes = boxes.take(largest(boxes.score))
        if self.param.nms < 0:
            return boxes
        below = np.nextafter(boxes.corners.dtype.type(self.param.nms), boxes.corners.dtype.type(-1))
        return boxes.take(np.array(suppress(boxes.corners, float(below)), int))

    def _of_cells(self, x, labels):
        classes, confidences, boxes = self.cells.parts(x)
        boxes = corners(self.cells.in_image(np.moveaxis(boxes, 2, 0), np.arange(boxes.shape[3])))
        difficult, objects, own, true = self.cells.labels(labels)
        true = corners(np.moveaxis(true, 2, 0))
        label = np.broadcast_to(classes.argmax(1)[:, None], confidences.shape)
        score = self._score(confidences, np.broadcast_to(classes.max(1)[:, None], confidences.shape))
        predicted, truths = [], []
        for n in range(len(x)):
            at = np.flatnonzero(objects[n])
            truths.append(_Boxes(truncated(own[n, at]), 1.0 - difficult[n, at], true[:, n, at].T))
            every = _Boxes(label[n].ravel(), score[n].ravel(), boxes[:, n].reshape(4, label[n].size).T.copy())
            predicted.append(self._kept(every))
        return predicted, truths

    def _of_map(self, x, labels, sizes):
        x = x.reshape(len(x), self.cells.boxes, 5 + self.cells.classes, *x.shape[2:])
        probability = np.moveaxis(x[:, :, 5:], 2, 1).copy()  # (N, C, B, S, S)
        softmax(probability, probability)
        confidence = np.broadcast_to(logistic(x[:, :, 4])[:, None], probability.shape)
        boxes = corners(decode(logistic(x[:, :, :2]), x[:, :, 2:4], sizes.astype(x.dtype)))
        score = self._score(confidence, probability)
        rows = labels[0, 0]
        predicted, truths = [], []
        for n in range(len(x)):
            own = rows[rows[:, 0] == n]
            truths.append(_Boxes(truncated(own[:, 1]) - 1, np.ones(len(own)), own[:, 3:7]))
            label, anchor, row, column = np.nonzero(confidence[n] * probability[n] > _LEAST)
            every = _Boxes(label, score[n, label, anchor, row, column], boxes[:, n, anchor, row, column].T.copy())
            kept = [self._kept(every.take(label == each)) for each in np.unique(label)]
            predicted.append(_Boxes(*(np.concatenate(each) for each in zip(*kept))) if kept else every)
        return predicted, truths
