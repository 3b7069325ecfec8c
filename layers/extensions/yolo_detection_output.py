"""YoloDetectionOutput: the boxes that YOLOv2's maps contain."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import logistic
from minicaffe.layers.shared.softmax import softmax
from minicaffe.layers.shared.yolo_boxes import decode, read_anchors
from minicaffe.layers.shared.yolo_output import Candidates, YoloOutput


@register("YoloDetectionOutput")
class YoloDetectionOutput(YoloOutput):
    """Decodes the boxes of a map or two, drops those that overlap a better one of any class.

    bottoms: maps (N, B (5 + C), H, W): for each of B anchors x, y, w, h, the objectness, C classes.
    top: rows of detections, as of Yolov3DetectionOutput.

    The boxes are those of Yolov3DetectionOutput with the anchors in places of the map.  The classes of a box are a
    softmax; it is a candidate for the best of them, if its score, s(objectness) times the class, is at least
    confidence_threshold.  A candidate is dropped if it overlaps a better one by nms_threshold or more.

    yolo_detection_output_param: num_classes C, num_box B 5, confidence_threshold 0.01, nms_threshold 0.45, biases (the
        anchors), coords 4.  side and label_map_file are not read.
    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Redmon and Farhadi, YOLO9000, 2017.
    """

    max_bottom = 2

    def read(self):
        return self.layer_param.yolo_detection_output_param

    def setup(self, bottom, top):
        super().setup(bottom, top)
        if self.param.coords != 4:
            raise self.error(f"coords must be 4, got {self.param.coords}")
        self.sizes = read_anchors(self, self.param.biases, range(self.anchors))

    def candidates(self, index, maps):
        classes = np.moveaxis(maps[:, :, 5:], 2, 1).copy()
        softmax(classes, classes)
        label = classes.argmax(1)
        scores = logistic(maps[:, :, 4]) * classes.max(1)
        image, anchor, row, column = at = np.nonzero(scores >= self.least)
        sizes = (self.sizes / np.array(maps.shape[:2:-1])).astype(maps.dtype)
        boxes = decode(logistic(maps[:, :, :2]), maps[:, :, 2:4], sizes)
        return Candidates(image, label[at], scores[at], boxes[:, image, anchor, row, column])
