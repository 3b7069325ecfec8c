"""DetectionEvaluate: compares the boxes of DetectionOutput or FrcnnOutput with the annotated ones."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.errors import DataError
from minicaffe.layers.shared.boxes import overlaps
from minicaffe.layers.shared.image_sizes import ImageSizes, in_pixels, resize_of
from minicaffe.layers.shared.pixel_boxes import edges
from minicaffe.saved import whole


@register("DetectionEvaluate")
class DetectionEvaluate(Layer):
    """Which detections are right: the rows from which `eval_type: "detection"` of a solver computes average precision.

    bottoms: detections (1, 1, D, 7), rows (image, class, confidence, xmin, ymin, xmax, ymax) as of DetectionOutput;
        annotated boxes (1, 1, M, 8), rows (image, class, instance, xmin, ymin, xmax, ymax, difficult), which end at the
        first row whose image is -1.  Images are counted within the batch.
        Three bottoms are Cascade R-CNN's: detections (D, 7, 1, 1), rows (image, x1, y1, x2, y2, class, confidence) of
        FrcnnOutput; annotated boxes (M, 8, 1, 1), rows (image, x1, y1, x2, y2, class, ignored, difficult), and sizes of
        images (N, 2, 1, 1), as of EvalData.  These boxes are in pixels of the resized image.
    top: (1, 1, R, 5); first a row (-1, class, number of annotated boxes, -1, -1) for each class but the background;
        then a row (image, class, confidence, right, wrong) for each detection, by image, class and descending
        confidence.

    A detection belongs to the annotated box of its image and class that it overlaps most.  The first one that belongs
    to a box, and whose overlap is at least overlap_threshold, is right (1, 0), all others are wrong (0, 1).

    detection_evaluate_param: num_classes, background_label_id 0, overlap_threshold 0.5, evaluate_difficult_gt true
        (false: difficult boxes do not count, and what belongs to one is (0, 0)), name_size_file (a line "name height
        width" for each image of the data set: boxes are compared in pixels, where a box from x to x is one pixel wide),
        resize_param (that of the data layer, so that its padding is taken off the boxes).

    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Everingham et al., The PASCAL Visual Object Classes Challenge, 2010, section 4.2; Liu et al., SSD, 2016.
    """

    fork = "SSD; Cascade R-CNN"
    family = "loss"
    min_bottom, max_bottom = 2, 3
    exact_num_top = 1
    always_reshape = True
    capturable = False  # the number of rows depends on values
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.param = param = self.layer_param.detection_evaluate_param
        if param.num_classes < 1:
            raise self.error("num_classes must be at least 1")
        if not param.overlap_threshold > 0:
            raise self.error(f"overlap_threshold must be above 0, got {param.overlap_threshold}")
        self.classes = [label for label in range(param.num_classes) if label != param.background_label_id]
        try:
            self.resize_param = resize_of(param)
            self.sizes = ImageSizes(param.name_size_file) if param.name_size_file else None
        except DataError as error:
            raise self.error(str(error)) from error
        self.batch = 0  # images in a batch: the most that a batch has had
        self.inputs: np.ndarray | None = None  # height and width of each resized image, of three bottoms

    @property
    def repeatable(self):  # type: ignore[override]  # nothing sets it
        return self.sizes is None  # else a pass goes on to the next images

    def top_shapes(self, bottom_shapes):
        of_pixels = len(bottom_shapes) > 2
        for i, (shape, columns) in enumerate(zip(bottom_shapes, (7, 8, 2))):
            if of_pixels and (len(shape) < 2 or math.prod(shape[1:]) != columns):
                raise self.error(f"bottom {i} must be (rows, {columns}, 1, 1), got {shape}")
            if not of_pixels and (len(shape) != 4 or shape[:2] != (1, 1) or shape[3] != columns):
                raise self.error(f"bottom {i} must be (1, 1, rows, {columns}), got {shape}")
        return [(1, 1, len(self.classes), 5)]

    def forward_cpu(self, bottom, top):
        found, true = (blob.read_data().reshape(-1, columns) for blob, columns in zip(bottom, (7, 8)))
        self.inputs = bottom[2].read_data().reshape(-1, 2) if len(bottom) > 2 else None
        if self.inputs is not None:
            found, true = found[:, [0, 5, 6, 1, 2, 3, 4]], true[:, [0, 5, 6, 1, 2, 3, 4, 7]]
        end = np.flatnonzero(true[:, 0] == -1)
        true = true[: end[0]] if len(end) else true
        images = np.concatenate([found[:, 0], true[:, 0]])
        if not np.isfinite(images).all():
            raise self.error(f"the images of boxes must be finite numbers, got {images[~np.isfinite(images)][0]}")
        found = found[(found[:, 0] != -1) & (found[:, 1] != -1)]
        for i, rows in enumerate((found, true)):
            if (rows[:, 1] == self.param.background_label_id).any():
                raise self.error(f"bottom {i} has a box of the background class {self.param.background_label_id}")
        rows = np.concatenate([self._counts(true), *self._compared(found, true)])
        top[0].reshape(1, 1, len(rows), 5)
        top[0].data = rows.reshape(top[0].shape)
        if self.sizes:
            count = int(images.max(initial=-1)) + 1 if self.inputs is None else len(self.inputs)
            self.batch = max(self.batch, count)
            self.sizes.advance(self.batch)

    def state(self):
        own = {"image": self.sizes.next, "batch": self.batch} if self.sizes else {}
        return {**super().state(), **own}

    def load_state(self, state):
        super().load_state(state)
        if self.sizes:
            self.sizes.load(state)
            self.batch = whole(state, "batch")

    def _counts(self, true: np.ndarray) -> np.ndarray:
        """Return a row for each class with the number of its annotated boxes that count."""
        labels = true[self._counted(true), 1]
        return np.array([[-1, label, (labels == label).sum(), -1, -1] for label in self.classes]).reshape(-1, 5)

    def _counted(self, true: np.ndarray) -> np.ndarray:
        return (true[:, 7] == 0) | self.param.evaluate_difficult_gt

    def _compared(self, found: np.ndarray, true: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the rows of each image and class that has detections, in their order."""
        for image, label in np.unique(found[:, :2], axis=0):
            own, boxes = (rows[(rows[:, :2] == (image, label)).all(1)] for rows in (found, true))
            if len(boxes):
                own = own[np.argsort(-own[:, 2], kind="stable")]
                right, wrong = self._judged(*self._comparable(int(image), own, boxes), self._counted(boxes))
            else:
                right, wrong = np.zeros(len(own)), np.ones(len(own))
            yield np.column_stack([own[:, :3], right, wrong])

    def _comparable(self, image: int, own: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the corners of detections and of annotated boxes, such that areas and overlaps are those of VOC."""
        parts = own[:, 3:], true[:, 3:7]
        if self.sizes is None and self.inputs is None:
            return parts
        own, true = (edges(self._in_pixels(image, boxes)) for boxes in parts)  # the last pixel belongs to a box
        return own, true

    def _in_pixels(self, image: int, boxes: np.ndarray) -> np.ndarray:
        """Return boxes (n, 4) in pixels of an image, or without its size in pixels of the resized one."""
        if self.inputs is None:
            assert self.sizes is not None
            return in_pixels(boxes, self.sizes[image], self.resize_param)
        if not 0 <= image < len(self.inputs):
            raise self.error(f"bottom 2 has the sizes of {len(self.inputs)} images, but a box is of image {image}")
        if self.sizes is None:
            return boxes
        size = self.sizes[image]
        return boxes * np.tile(np.array([size.width, size.height], boxes.dtype) / self.inputs[image, ::-1], 2)

    def _judged(self, own: np.ndarray, true: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return 1 or 0 for each detection: whether it is right, and whether it is wrong.

        own: corners of detections (n, 4), the best first; true: of annotated boxes; counted: which of these count.
        """
        shared = overlaps(own.T, true.T)
        best, hit = shared.argmax(1), shared.max(1) >= self.param.overlap_threshold
        candidates = np.flatnonzero(hit & counted[best])
        right = np.zeros(len(own))
        right[candidates[np.unique(best[candidates], return_index=True)[1]]] = 1
        wrong = ~hit | counted[best] & (right == 0)
        return right, wrong
