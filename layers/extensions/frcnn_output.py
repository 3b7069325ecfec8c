"""FrcnnOutput: the boxes that a detector's second stage has found in an image."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.boxes import largest, suppress
from minicaffe.layers.shared.detection_files import open_files
from minicaffe.layers.shared.map_boxes import OVER
from minicaffe.layers.shared.pixel_boxes import CodeStatistics, decode_pixels, edges


@register("FrcnnOutput")
class FrcnnOutput(Layer):
    """Moves regions to where a detector has found their boxes, drops those that overlap a better one of their class.

    bottoms: probabilities (R, K), the first class the background; codes (R, 4 K), or (R, 8) unless cls_aware, of which
        columns 4 to 7 are those of objects; regions (R, 5) of one image, rows (image, x1, y1, x2, y2) in pixels, x2 and
        y2 being the last ones, or (R, 6), with a score; the image's height and width (1, 2)
    top: (D + 1, 7, 1, 1), first (0, -1, ...), then a row (0, x1, y1, x2, y2, class, probability) for each of the D
        boxes found, by class, best first.  They are clipped to 0 and the image's width and height.

    frcnn_output_param: conf_thr 0, least probability; iou_thr 0.5 and nms_type "IOU": boxes of a class whose overlap
        with a better one is above iou_thr are dropped; max_det_num 0 (all): the best ones of the image;
        save_output_param writes files, see `DetectionFiles`, if it gives output_directory, label_map_file and
        name_size_file and these files exist.
    bbox_reg_param: bbox_mean and bbox_std of the codes; cls_aware true.
    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Girshick, Fast R-CNN, 2015; Cai and Vasconcelos, Cascade R-CNN, 2018.
    """

    fork = "Cascade R-CNN"
    more_params = ("bbox_reg_param",)
    exact_num_bottom = 4
    exact_num_top = 1
    always_reshape = True
    capturable = False  # the number of boxes depends on values
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.param = param = self.layer_param.frcnn_output_param
        self.statistics, self.class_aware = CodeStatistics(self), self.layer_param.bbox_reg_param.cls_aware
        if param.nms_type not in OVER:
            raise self.error(f"nms_type must be one of {', '.join(OVER)}, got '{param.nms_type}'")
        self.files = open_files(self, param, range(1, math.prod(bottom[0].shape[1:])))

    def top_shapes(self, bottom_shapes):
        scores, codes, regions, sizes = bottom_shapes
        classes = math.prod(scores[1:])
        if len(scores) < 2 or classes < 2:
            raise self.error(f"bottom 0 must be the probabilities (R, K) of two classes or more, got {scores}")
        length = 4 * classes if self.class_aware else 8
        for i, shape, lengths in ((1, codes, (length,)), (2, regions, (5, 6))):
            if shape[:1] != scores[:1] or math.prod(shape[1:]) not in lengths:
                words = " or ".join(f"({scores[0]}, {each})" for each in lengths)
                raise self.error(f"bottom {i} must be {words}, got {shape}")
        if math.prod(sizes) != 2:
            raise self.error(f"bottom 3 must be height and width of one image, (1, 2), got {sizes}")
        return [(1, 7, 1, 1)]

    def forward_cpu(self, bottom, top):
        scores, codes, regions = (blob.read_data().reshape(blob.shape[0], -1) for blob in bottom[:3])
        height, width = bottom[3].read_data().ravel()
        if (regions[:, 0] != 0).any():
            raise self.error(f"regions must be of one image, 0, got {regions[regions[:, 0] != 0][0, 0]:g}")
        boxes = decode_pixels(self.statistics.restored(codes.reshape(len(codes), -1, 4)), regions[:, None, 1:5])
        boxes[..., 2:] -= 1  # codes and boxes are inverse here
        boxes = np.concatenate([np.maximum(boxes[..., :2], 0), np.minimum(boxes[..., 2:], (width, height))], -1)
        found = np.concatenate(
            [self._of_class(k, scores[:, k], boxes[:, k if self.class_aware else 1]) for k in range(1, scores.shape[1])]
        )
        if 0 < self.param.max_det_num < len(found):
            found = found[largest(found[:, 6], self.param.max_det_num)]
            found = found[np.argsort(found[:, 5], kind="stable")]
        first = np.array([[0, *[-1] * 6]], self.dtype)
        top[0].reshape(len(found) + 1, 7, 1, 1)
        top[0].data = np.concatenate([first, found]).reshape(top[0].shape)
        if self.files:
            fractions = found[:, 1:5] / np.array([width, height, width, height], self.dtype)
            self.files.add(np.column_stack([found[:, [0, 5, 6]], fractions]))

    def _of_class(self, label: int, scores: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Return the rows (n, 7) of a class, the best first."""
        chosen = np.flatnonzero(scores >= self.param.conf_thr)
        chosen = chosen[largest(scores[chosen])]
        chosen = chosen[suppress(edges(boxes[chosen]), self.param.iou_thr, over=OVER[self.param.nms_type])]
        rows = np.zeros((len(chosen), 7), self.dtype)
        rows[:, 1:5], rows[:, 5], rows[:, 6] = boxes[chosen], label, scores[chosen]
        return rows

    def state(self):
        return {**super().state(), **({"image": self.files.images.next} if self.files else {})}

    def load_state(self, state):
        super().load_state(state)
        if self.files:
            self.files.load(state)
