"""The base of RegionLoss and Yolov3: true boxes, which boxes of a map learn from them, the loss."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.cuda import ops
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.layers.shared.elementwise import logistic
from minicaffe.layers.shared.loss import LossLayer, class_labels
from minicaffe.layers.shared.views import truncated
from minicaffe.layers.shared.yolo_boxes import Overlap, check_map, decode
from minicaffe.proto.caffe_pb2 import Yolov3Parameter


class Truths(NamedTuple):
    """The true boxes of a batch, in their order."""

    image: np.ndarray  #: (G,)
    label: np.ndarray  #: (G,), the class, from 0 on
    box: np.ndarray  #: (4, G), centre and size
    row: np.ndarray  #: (G,), the place of the map that holds the centre
    column: np.ndarray  #: (G,)


class Learning(NamedTuple):
    """Boxes of a map that learn from a true box, M of them, in the order of the true boxes."""

    truth: np.ndarray  #: (M,), which true box
    at: tuple[np.ndarray, ...]  #: image, anchor, row, column, each (M,)
    code: np.ndarray  #: (M, K), the numbers of the map
    first: np.ndarray  #: (M,), whether no earlier one is at the same place


class YoloLoss(LossLayer):
    """Base of losses of a map (N, B K, H, W) of B anchors with K = 5 + C numbers: x, y, w, h, objectness, C classes.

    Each number of the map has a step, `diff`.  The gradient is the steps, divided by N, and the loss the sum of the
    squared steps: the gradient is not the derivative of the loss.

    A subclass calls `prepare` in `setup`, and gives `chosen`, `learn` and `learn_gpu`.
    """

    fork = "YOLO"
    kind = Yolov3Parameter.IOU  #: of overlaps
    first_label = 0  #: the label of class 0, in labels that are rows of boxes as AnnotatedData's
    background_scale = 1.0
    sloped = False  #: whether the step of the objectness is multiplied by the slope of the sigmoid

    def prepare(self, classes: int, anchors: np.ndarray, mask: list[int], pixels: int, threshold: float) -> None:
        """Set up: anchors (A, 2) of all maps, `mask`, those of this map, and pixels for a place, their unit."""
        if classes < 1 or pixels < 1:
            raise self.error(f"num_class and anchors_scale must be at least 1, got {classes} and {pixels}")
        self.classes, self.anchors, self.pixels, self.threshold = classes, anchors, pixels, threshold
        self.mask, self.sizes, self.diff = (Blob((), self.dtype) for _ in range(3))
        self.mask.reshape(len(mask))
        self.mask.data[...] = mask
        self.taken: DeviceBuffer | None = None  # on the device: for each place and anchor whether it learns

    def top_shapes(self, bottom_shapes):
        x, labels = bottom_shapes
        check_map(self, 0, x, self.mask.count, 5 + self.classes)
        if len(labels) != 4 or not (
            labels[:2] == (x[0], 1) and labels[3] == 5 or labels[:2] == (1, 1) and labels[3] == 8
        ):
            raise self.error(
                f"bottom 1 must be true boxes ({x[0]}, 1, T, 5) of {x[0]} images, or rows of boxes (1, 1, M, 8), got "
                f"{labels}"
            )
        return [()]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        n, _, height, width = bottom[0].shape
        self.view = n, self.mask.count, 5 + self.classes, height, width
        self.diff.reshape(bottom[0].shape)
        self.sizes.reshape(self.anchors.shape)
        self.sizes.data[...] = self.anchors / (np.array([width, height]) * self.pixels)

    def divisor(self) -> int:
        """Return what the sum of the loss is divided by."""
        return max(1, self.view[0])

    # -- on the CPU ------------------------------------------------------------------------------------------------

    def chosen(self, truths: Truths, boxes: np.ndarray) -> np.ndarray:
        """Return which anchors of the map learn from each true box, (G, B); boxes: all of the map, (4, N, B, H, W)."""
        raise NotImplementedError

    def learn(self, truths: Truths, learning: Learning, steps: np.ndarray) -> float:
        """Write the steps (N, B, K, H, W) of boxes that learn; return a term that is added to the sum of squares."""
        raise NotImplementedError

    def forward_cpu(self, bottom, top):
        x, steps = bottom[0].read_data().reshape(self.view), self.diff.data.reshape(self.view)
        truths = self._truths(bottom[1].read_data())
        boxes = decode(logistic(x[:, :, :2]), x[:, :, 2:4], self.sizes.data[self.mask.data.astype(int)])
        p = logistic(x[:, :, 4])
        steps[...] = 0
        steps[:, :, 4] = self.background_scale * p * (p * (1 - p) if self.sloped else 1)
        for image in range(len(x)):
            own = truths.box[:, truths.image == image, None]
            best = Overlap(boxes[:, image].reshape(4, 1, -1), own, self.kind).value().max(0, initial=0)
            steps[image, :, 4][best.reshape(p[image].shape) > self.threshold] = 0
        further = self.learn(truths, self._learning(truths, boxes, x), steps) if len(truths.image) else 0.0
        top[0].data[...] = (self.squares(steps) + further) / self.divisor()

    def squares(self, steps: np.ndarray) -> float:
        """Return the sum of the squared steps that belong to the loss."""
        return np.vdot(steps, steps)

    def _learning(self, truths: Truths, boxes: np.ndarray, x: np.ndarray) -> Learning:
        truth, anchor = np.nonzero(self.chosen(truths, boxes))
        at = truths.image[truth], anchor, truths.row[truth], truths.column[truth]
        first = np.zeros(len(truth), bool)
        first[np.unique(np.stack(at), axis=1, return_index=True)[1]] = True
        image, anchor, row, column = at
        return Learning(truth, at, x[image, anchor, :, row, column], first)

    def learn_classes(self, learning: Learning, rows: np.ndarray, own: np.ndarray, steps: np.ndarray) -> None:
        """Write the steps of classes: `rows` (M, C) where `first`, elsewhere of the class `own` (M,) alone."""
        image, anchor, row, column = (each[learning.first] for each in learning.at)
        steps[image, anchor, 5:, row, column] = rows[learning.first]
        later = np.flatnonzero(~learning.first)
        image, anchor, row, column = (each[later] for each in learning.at)
        steps[image, anchor, 5 + own[later], row, column] = rows[later, own[later]]

    def _truths(self, labels: np.ndarray) -> Truths:
        """Return the true boxes; LayerError for a class, or the number of an image, that does not exist."""
        images, _, _, height, width = self.view
        if labels.shape[3] == 5:
            given = np.logical_and.accumulate((labels[:, 0, :, 1] != 0) & (labels[:, 0, :, 3] != 0), axis=1)
            image, rows = np.nonzero(given)[0], labels[:, 0][given]
            label, box = rows[:, 0], rows[:, 1:].T
        else:
            rows = labels[0, 0][labels[0, 0, :, 0] != -1]
            image, label = truncated(rows[:, 0]), rows[:, 1] - self.first_label
            box = np.concatenate([(rows[:, 3:5] + rows[:, 5:7]) / 2, rows[:, 5:7] - rows[:, 3:5]], 1).T
        if len(image) and not 0 <= image.min() <= image.max() < images:
            raise self.error(f"true boxes must be of images 0 to {images - 1}, got {image.min()} to {image.max()}")
        label = self.class_of(class_labels(self, label, self.labels())[0])
        column, row = (np.clip(truncated(box[k] * size), 0, size - 1) for k, size in ((0, width), (1, height)))
        return Truths(image, label, box, row, column)

    def labels(self) -> int:
        """Return the number of labels."""
        return self.classes

    def class_of(self, label: np.ndarray) -> np.ndarray:
        """Return the class of labels."""
        return label

    def backward_cpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if propagate_down[0]:
            scale = self.loss_weight(top) / max(1, self.view[0])
            np.multiply(self.diff.read_data(), scale, out=bottom[0].diff)

    # -- on the GPU ------------------------------------------------------------------------------------------------

    def learn_gpu(self, given: tuple, x: int, steps: int, top) -> None:
        """Write the steps of boxes that learn, and the loss; given: sizes and true boxes, in the kernels' order."""
        raise NotImplementedError

    def forward_gpu(self, bottom, top):
        images, anchors, numbers, height, width = self.view
        labels, x, steps = bottom[1], bottom[0].gpu_data(), self.diff.mutable_gpu_data()
        places = images * anchors * height * width
        if self.taken is None or self.taken.nbytes < places:
            self.taken = DeviceBuffer(max(places, 1))
        sizes = self.sizes.gpu_data(), self.mask.gpu_data()
        given = anchors, numbers, height, width, *sizes, labels.gpu_data(), *labels.shape[2:], self.first_label
        rules = self.kind, self.threshold, self.background_scale, self.sloped
        kernel("yolo_loss", "background", self.dtype)(places, *given, *rules, x, steps, self.taken)
        self.learn_gpu(given, x, steps, top)

    def sum_squares_gpu(self, steps: int, top) -> None:
        """Write the loss, the sum of the squared steps."""
        ops.dot(self.diff.count, steps, steps, self.dtype, out=top[0].mutable_gpu_data(), alpha=1 / self.divisor())

    def backward_gpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if propagate_down[0]:
            dx, scale = bottom[0].mutable_gpu_diff(), 1 / max(1, self.view[0])
            self.scaled_gpu(self.diff.count, top, self.diff.gpu_data(), dx, scale)
