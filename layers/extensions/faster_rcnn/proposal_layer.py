"""rpn.proposal_layer: regions from the scores and codes of a region proposal network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicaffe.core.python_layers import replaces
from minicaffe.layers.extensions.faster_rcnn.param_str import read_settings
from minicaffe.layers.shared.anchors import (
    RATIOS,
    SCALES,
    Limits,
    best,
    by_anchor,
    check_maps,
    decoded_map,
    large_enough,
    make_anchors,
)
from minicaffe.layers.shared.python_part import PythonPart
from minicaffe.proto import TRAIN


@dataclass(frozen=True)
class ProposalSettings:
    """Keys of param_str."""

    feat_stride: int  #: pixels of the image for a place of the map
    scales: tuple[float, ...] = SCALES  #: sides of the anchors, in units of 16 pixels
    ratios: tuple[float, ...] = RATIOS  #: height / width of the anchors
    rpn_pre_nms_top_n: int | None = None  #: best boxes that are compared; absent: 12000 in TRAIN, 6000 in TEST
    rpn_post_nms_top_n: int | None = None  #: most boxes that are proposed; absent: 2000 in TRAIN, 300 in TEST
    rpn_nms_thresh: float = 0.7  #: overlap above which the worse box is dropped
    rpn_min_size: float = 16.0  #: boxes with a smaller side in the image before scaling are dropped, in pixels
    rpn_normalize_targets: bool = False  #: py-R-FCN: in TRAIN, codes are multiplied by the stds, then the means added
    rpn_normalize_means: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    rpn_normalize_stds: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)

    def limits(self, phase: int) -> Limits:
        """Return the limits of a phase."""
        before, after = (12000, 2000) if phase == TRAIN else (6000, 300)
        before = before if self.rpn_pre_nms_top_n is None else self.rpn_pre_nms_top_n
        after = after if self.rpn_post_nms_top_n is None else self.rpn_post_nms_top_n
        return Limits(max(before, 0), max(after, 0), self.rpn_nms_thresh)


@replaces("rpn.proposal_layer", "ProposalLayer")
class ProposalLayer(PythonPart):
    """Decodes the box of each anchor, clips it to the image, and keeps the best.

    bottoms: probabilities (1, 2 A, H, W), those of objects in the second half; codes (1, 4 A, H, W); im_info (1, 3):
        height, width and scale of the image
    tops: regions (R, 5), rows (0, x1, y1, x2, y2), the best first; optionally their scores (R, 1)

    param_str: see `ProposalSettings`.  There is no gradient.  It runs on the CPU, in GPU mode too.
    """

    def setup(self, bottom, top):
        self.check_blobs(bottom, top, 3, (1, 2))
        self.settings = read_settings(ProposalSettings, self.param_str, self)
        self.anchors = make_anchors(16, self.settings.ratios, self.settings.scales)
        self.limits = self.settings.limits(self.phase)
        top[0].reshape(1, 5)
        if len(top) > 1:
            top[1].reshape(1, 1)

    def forward(self, bottom, top):
        check_maps(self, bottom[0].shape, bottom[1].shape, len(self.anchors), 1)
        if bottom[2].count < 3:
            raise self.error(f"bottom 2 must be im_info (1, 3): height, width, scale; got {bottom[2].shape}")
        count, (height, width, scale) = len(self.anchors), bottom[2].data.reshape(-1)[:3]
        boxes = decoded_map(self._codes(bottom[1].data[0]), self.anchors, self.settings.feat_stride, height, width)
        least = self.settings.rpn_min_size * scale
        large = np.flatnonzero(large_enough(boxes, least, least))
        scores = by_anchor(bottom[0].data[0, count:], count)
        kept = large[best(boxes[large], scores[large, 0], self.limits)]
        for blob, values in zip(top, (np.pad(boxes[kept], ((0, 0), (1, 0))), scores[kept])):
            blob.reshape(*values.shape)
            blob.data[...] = values

    def _codes(self, codes):
        """Return the map of codes without the normalization of their targets in training."""
        if self.phase != TRAIN or not self.settings.rpn_normalize_targets:
            return codes
        stds, means = (np.tile(each, len(self.anchors))[:, None, None].astype(codes.dtype) for each in
                       (self.settings.rpn_normalize_stds, self.settings.rpn_normalize_means))  # fmt: skip
        return codes * stds + means
