"""Yolov3DetectionOutput: the boxes that YOLOv3's maps contain."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import logistic
from minicaffe.layers.shared.yolo_boxes import decode, read_anchors
from minicaffe.layers.shared.yolo_output import Candidates, YoloOutput


@register("Yolov3DetectionOutput")
class Yolov3DetectionOutput(YoloOutput):
    """Decodes the boxes of maps of several scales, drops those that overlap a better one of any class.

    bottoms: maps (N, B (5 + C), H, W): for each of B anchors x, y, w, h, the objectness, C classes.
    top: (1, 1, D, 7), a row (image, class + 1, score, xmin, ymin, xmax, ymax) for each of D detections, by image, the
        best first, as fractions of the image, which the boxes may leave; without any box in the batch one row
        (image, -1, ...) for each image

    With the sigmoid s, at column i and row j of a map, the box of anchor (a, b) has its centre at ((i + s(x)) / W,
    (j + s(y)) / H), and its size is (a e^w / (W scale), b e^h / (H scale)).  For each class whose score, s(objectness)
    s(class), is above confidence_threshold, it is a candidate.  A candidate is dropped if it overlaps a better one by
    nms_threshold or more.

    yolov3_detection_output_param: num_classes C, num_box B 3, confidence_threshold 0.01, nms_threshold 0.45, biases
        (the anchors, in pixels), mask_group_num 2 (number of bottoms), mask (the anchors of each bottom, by number),
        anchors_scale (pixels for a place, of each bottom), gaussian_box false (true: x, y, w, h are each followed by
        their uncertainty, which is between 0 and 1 after the sigmoid, and scores are multiplied by 1 minus its mean).
    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Redmon and Farhadi, YOLOv3, 2018; Choi et al., Gaussian YOLOv3, 2019.
    """

    def read(self):
        return self.layer_param.yolov3_detection_output_param

    def numbers(self):
        return (9 if self.param.gaussian_box else 5) + self.classes

    def setup(self, bottom, top):
        super().setup(bottom, top)
        param, maps = self.param, len(bottom)
        if param.mask_group_num != maps or len(param.anchors_scale) < maps or 0 in param.anchors_scale:
            raise self.error(
                f"mask_group_num must be {maps}, the number of bottoms, and anchors_scale be given for each of them, "
                f"got {param.mask_group_num} and {list(param.anchors_scale)}"
            )
        if len(param.mask) != maps * self.anchors:
            raise self.error(
                f"mask must give {self.anchors} anchors for each of {maps} bottoms, got {list(param.mask)}"
            )
        self.sizes = read_anchors(self, param.biases, param.mask).reshape(maps, self.anchors, 2)

    def candidates(self, index, maps):
        step = 2 if self.param.gaussian_box else 1  # from one number of a box to the next
        places, growth = maps[:, :, 0 : 2 * step : step], maps[:, :, 2 * step : 4 * step : step]
        objectness = logistic(maps[:, :, 4 * step])
        if self.param.gaussian_box:
            objectness = objectness * (1 - logistic(maps[:, :, 1:8:2]).mean(2))
        scores = objectness[:, :, None] * logistic(maps[:, :, 4 * step + 1 :])
        image, anchor, label, row, column = np.nonzero(scores > self.least)
        pixels = np.array(maps.shape[:2:-1]) * self.param.anchors_scale[index]  # width, height
        boxes = decode(logistic(places), growth, (self.sizes[index] / pixels).astype(maps.dtype))
        score = scores[image, anchor, label, row, column]
        return Candidates(image, label, score, boxes[:, image, anchor, row, column])
