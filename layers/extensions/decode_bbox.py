"""DecodeBBox: regions moved to where a detector has found their boxes."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.pixel_boxes import CodeStatistics, decode_pixels
from minicaffe.proto import TRAIN


@register("DecodeBBox")
class DecodeBBox(Layer):
    """The next regions of a cascade: those of codes, relative to the regions that they were computed from.

    bottoms: codes (R, 8), of which columns 4 to 7 are those of objects; regions (R, 5), rows (image, x1, y1, x2, y2) in
        pixels, x2 and y2 being the last ones; optionally the boxes that ProposalTarget has matched, (R, 6)
    top: regions (S, 5, 1, 1); S is R in TEST; in TRAIN regions that end before they begin are left out, and those
        whose overlap with the matched box, its last column, is at least gt_iou_thr

    decode_bbox_param: gt_iou_thr 0.95.  bbox_reg_param: bbox_mean and bbox_std of the codes.
    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Cai and Vasconcelos, Cascade R-CNN, 2018.
    """

    fork = "MS-CNN and Cascade R-CNN"
    more_params = ("bbox_reg_param",)
    min_bottom, max_bottom = 2, 3
    exact_num_top = 1
    always_reshape = True
    capturable = False  # the number of regions depends on values
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.statistics = CodeStatistics(self)

    def top_shapes(self, bottom_shapes):
        codes, regions, *matched = bottom_shapes
        for i, shape, length in ((0, codes, 8), (1, regions, 5)):
            if len(shape) < 2 or shape[0] != codes[0] or math.prod(shape[1:]) != length:
                raise self.error(f"bottom {i} must be (R, {length}), got {shape}")
        if any(shape[:1] != codes[:1] or not math.prod(shape[1:]) for shape in matched):
            raise self.error(f"bottom 2 must be the matched boxes (R, 6), got {matched[0]}")
        return [(codes[0], 5, 1, 1)]

    def forward_cpu(self, bottom, top):
        count = bottom[0].shape[0]
        codes, regions = bottom[0].read_data().reshape(count, 8), bottom[1].read_data().reshape(count, 5)
        boxes = decode_pixels(self.statistics.restored(codes[:, 4:]), regions[:, 1:])
        boxes[:, 2:] -= 1  # codes and boxes are inverse here
        kept = np.ones(count, bool)
        if self.phase == TRAIN:
            kept &= ~(boxes[:, 2:] < boxes[:, :2]).any(1)
            if len(bottom) > 2:
                kept &= (
                    bottom[2].read_data().reshape(count, bottom[2].count_range(1))[:, -1]
                    < self.layer_param.decode_bbox_param.gt_iou_thr
                )
        found = np.concatenate([regions[kept, :1], boxes[kept]], 1)
        top[0].reshape(len(found), 5, 1, 1)
        top[0].data = found.reshape(top[0].shape)
