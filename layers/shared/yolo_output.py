"""The base of YoloDetectionOutput and Yolov3DetectionOutput: candidates, suppression, the reported rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.layers.shared.boxes import largest, suppress
from minicaffe.layers.shared.yolo_boxes import check_map, corners


class Candidates(NamedTuple):
    """Boxes of a map, those whose score is high enough; one box may be given for several classes."""

    image: np.ndarray  #: (n,)
    label: np.ndarray  #: (n,), the class, from 0 on
    score: np.ndarray  #: (n,)
    box: np.ndarray  #: (4, n), centre and size


class YoloOutput(Layer):
    """Base of layers whose bottoms are maps (N, B K, H, W) of B anchors, and whose top is rows of detections.

    A subclass gives `read`, which returns the parameters, `numbers`, K, and `candidates` of one map.
    """

    fork = "YOLO"
    min_bottom: int | None = 1
    exact_num_top = 1
    always_reshape = True
    capturable = False  # the number of boxes depends on values
    in_place = False
    backward_reads = ()

    def read(self) -> Any:
        """Return the parameters of the layer."""
        raise NotImplementedError

    def numbers(self) -> int:
        """Return how many numbers an anchor has at a place."""
        return 5 + self.classes

    def candidates(self, index: int, maps: np.ndarray) -> Candidates:
        """Return the candidates of bottom `index`, (N, B, K, H, W)."""
        raise NotImplementedError

    def setup(self, bottom, top):
        self.param = param = self.read()
        self.classes, self.anchors, self.least = param.num_classes, param.num_box, param.confidence_threshold
        if not param.HasField("num_classes") or self.classes < 1 or self.anchors < 1:
            raise self.error(f"num_classes must be given, and it and num_box be at least 1, got {param.num_box}")
        if param.nms_threshold < 0:
            raise self.error(f"nms_threshold must not be negative, got {param.nms_threshold:g}")

    def top_shapes(self, bottom_shapes):
        for index, shape in enumerate(bottom_shapes):
            check_map(self, index, shape, self.anchors, self.numbers())
            if shape[0] != bottom_shapes[0][0]:
                raise self.error(f"all bottoms must have the same images, got {bottom_shapes[0]} and {shape}")
        return [(1, 1, 1, 7)]

    def forward_cpu(self, bottom, top):
        images = bottom[0].shape[0]
        found = [self.candidates(index, self._by_anchor(blob)) for index, blob in enumerate(bottom)]
        every = Candidates(*(np.concatenate(each, -1) for each in zip(*found)))
        rows = np.concatenate([np.zeros((0, 7)), *(self._rows(every, image) for image in range(images))])
        if not len(rows):
            rows = np.array([[image, *[-1] * 6] for image in range(images)]).reshape(images, 7)
        top[0].reshape(1, 1, len(rows), 7)
        top[0].data = rows.reshape(top[0].shape)

    def _by_anchor(self, blob) -> np.ndarray:
        images, _, height, width = blob.shape
        return blob.read_data().reshape(images, self.anchors, self.numbers(), height, width)

    def _rows(self, every: Candidates, image: int) -> np.ndarray:
        """Return the rows of one image, the best first."""
        own = np.flatnonzero(every.image == image)
        own = own[largest(every.score[own])]
        boxes = np.ascontiguousarray(corners(every.box[:, own]).T)
        below = np.nextafter(boxes.dtype.type(self.param.nms_threshold), boxes.dtype.type(-1))  # an equal overlap drops
        kept = suppress(boxes, float(below))
        chosen = own[kept]
        first = np.stack([every.image[chosen], every.label[chosen] + 1, every.score[chosen]], 1)
        return np.concatenate([first, boxes[kept]], 1)
