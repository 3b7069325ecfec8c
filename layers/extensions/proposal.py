"""Proposal: regions from the scores and codes of a region proposal network."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.anchors import (
    Limits,
    best,
    by_anchor,
    check_maps,
    decoded_map,
    large_enough,
    make_anchors,
)


@register("Proposal")
class Proposal(Layer):
    """Decodes the box of each anchor, clips it to the image, and keeps the best.

    bottoms: probabilities (N, 2 A, H, W), those of objects in the second half; codes (N, 4 A, H, W); im_info (1 or N,
        4 or more): height, width, and scales of the height and of the width; what follows is not read
    tops: regions (R, 5), rows (n, x1, y1, x2, y2), by image, the best first; optionally their scores (R,)

    proposal_param: feat_stride 16, pixels for a place of the map; ratio and scale of the A anchors, base_size 16: their
        side is scale * base_size; min_size 16: a box with a smaller side in the image before scaling has score 0;
        pre_nms_topn 6000 best boxes of an image are compared, those that overlap a better one by more than nms_thresh
        0.7 dropped, and post_nms_topn 300 kept.

    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Ren et al., Faster R-CNN, 2015; Kim et al., PVANET, 2016.
    """

    fork = "PVANET"
    exact_num_bottom = 3
    min_top, max_top = 1, 2
    always_reshape = True
    capturable = False  # the number of regions depends on values
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.param = param = self.layer_param.proposal_param
        for name, values in (("ratio", param.ratio), ("scale", param.scale)):
            if not values or not min(values) > 0:
                raise self.error(f"proposal_param must give {name}, above 0, got {list(values)}")
        if not param.feat_stride or not param.base_size:
            raise self.error("feat_stride and base_size must not be 0")
        self.anchors = make_anchors(param.base_size, param.ratio, param.scale, lambda sides: np.floor(sides + 0.5))
        self.limits = Limits(param.pre_nms_topn, param.post_nms_topn, param.nms_thresh)

    def top_shapes(self, bottom_shapes):
        scores, codes, info = bottom_shapes
        check_maps(self, scores, codes, len(self.anchors), scores[0] if scores else 1)
        if len(info) < 2 or info[0] not in (1, scores[0]) or np.prod(info[1:]) < 4:
            raise self.error(
                f"bottom 2 must be im_info (1, 4): height, width, scales of the height and of the width; got {info}"
            )
        return [(1, 5), (1,)]

    def forward_cpu(self, bottom, top):
        scores, codes = bottom[0].read_data(), bottom[1].read_data()
        infos = bottom[2].read_data()
        infos = infos.reshape(len(infos), math.prod(bottom[2].shape[1:]))[:, :4]
        infos = infos.repeat(len(scores) // max(len(infos), 1), 0)
        found = [self._propose(*each) for each in zip(range(len(scores)), scores, codes, infos)]
        rows = np.concatenate([np.zeros((0, 6), self.dtype), *found])
        for blob, values in zip(top, (rows[:, :5], rows[:, 5])):
            blob.reshape(values.shape)
            blob.data = values

    def _propose(self, n, scores, codes, info):
        """Return the regions of one image and their scores, rows (n, x1, y1, x2, y2, score)."""
        height, width, scale_h, scale_w = info
        count = len(self.anchors)
        boxes = decoded_map(codes, self.anchors, self.param.feat_stride, height, width)
        least = self.param.min_size
        scores = by_anchor(scores[count:], count)[:, 0] * large_enough(boxes, least * scale_w, least * scale_h)
        kept = best(boxes, scores, self.limits)
        return np.column_stack([np.full(len(kept), n, self.dtype), boxes[kept], scores[kept]])
