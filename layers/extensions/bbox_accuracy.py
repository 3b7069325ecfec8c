"""BboxAccuracy: how well boxes that a detector has found overlap the annotated ones."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.boxes import overlaps
from minicaffe.layers.shared.pixel_boxes import CodeStatistics, decode_pixels, edges

_SAME = 0.975  # overlap above which a region is an annotated box itself, which is left out


@register("BboxAccuracy")
class BboxAccuracy(Layer):
    """The mean overlap of objects' boxes, intersection over union, with the annotated ones.

    bottoms: codes (R, 4 K), four columns for each class, those of an object at its label (at 1 unless cls_aware);
        regions (R, 5), rows (image, x1, y1, x2, y2); their annotated boxes (R, 6), rows (label, x1, y1, x2, y2,
        overlap), as ProposalTarget gives them; label 0: no object
    tops: the mean of the decoded boxes, one number; optionally that of the regions.  -1 without any object.

    Regions with an overlap above 0.975 are left out.
    bbox_reg_param: bbox_mean and bbox_std of the codes; cls_aware true.
    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Cai, Fan, Feris and Vasconcelos, MS-CNN, 2016.
    """

    fork = "MS-CNN and Cascade R-CNN"
    family = "loss"
    param_field = "bbox_reg_param"
    exact_num_bottom = 3
    min_top, max_top = 1, 2
    capturable = False  # works on the host
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.statistics, self.class_aware = CodeStatistics(self), self.layer_param.bbox_reg_param.cls_aware

    def top_shapes(self, bottom_shapes):
        codes, regions, boxes = bottom_shapes
        lengths = [math.prod(shape[1:]) for shape in bottom_shapes]
        if not codes or regions[:1] != codes[:1] or boxes[:1] != codes[:1] or lengths[0] % 4 or lengths[1:] != [5, 6]:
            raise self.error(
                f"bottoms must be codes (R, 4 K), regions (R, 5) and boxes (R, 6), got {codes}, {regions} and {boxes}"
            )
        return [(), ()]

    def forward_cpu(self, bottom, top):
        codes, regions, boxes = (blob.read_data().reshape(blob.shape[0], math.prod(blob.shape[1:])) for blob in bottom)
        objects = np.flatnonzero((boxes[:, 0] > 0) & (boxes[:, 5] <= _SAME))
        labels = boxes[objects, 0].astype(int) if self.class_aware else np.ones(len(objects), int)
        if labels.size and labels.max() >= codes.shape[1] // 4:
            raise self.error(f"label {labels.max()} is out of range: bottom 0 has {codes.shape[1] // 4} classes")
        codes = self.statistics.restored(codes[objects[:, None], 4 * labels[:, None] + np.arange(4)])
        regions, truth = regions[objects, 1:], edges(boxes[objects, 1:5])
        for blob, found in zip(top, (decode_pixels(codes, regions), edges(regions))):  # as corners of areas
            each = [overlaps(a[:, None], b[:, None]).item() for a, b in zip(found, truth)]
            blob.data[...] = np.mean(each) if each else -1
