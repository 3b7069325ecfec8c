"""HardMining: the regions with the largest losses."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


@register("HardMining")
class HardMining(Layer):
    """Keeps the regions with the largest scores, at most num_roi_per_image of an image, in their order.

    bottoms: a score for each region, such as its loss, (R,); regions (R, 5), rows (image, x1, y1, x2, y2); others,
        (R, ...)
    tops: the rows of bottoms 1, 2, ... of M regions, M = min(R, num_image * num_roi_per_image); where images have too
        few, those with the largest scores of the others are added.  Of equal scores the last counts as larger.

    hard_mining_param: num_roi_per_image 128, num_image 4.
    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Shrivastava, Gupta and Girshick, Training region-based object detectors with online hard example mining,
    2016; Cai and Vasconcelos, Cascade R-CNN, 2018.
    """

    fork = "Cascade R-CNN"
    min_bottom = 2
    min_top = 1
    capturable = False  # works on the host
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        param = self.layer_param.hard_mining_param
        self.each, self.images = param.num_roi_per_image, param.num_image
        if len(top) != len(bottom) - 1:
            raise self.error(
                f"must have a top for each bottom but the first, got {len(bottom)} bottoms, {len(top)} tops"
            )
        if self.each < 1 or self.images < 1:
            raise self.error(f"num_roi_per_image and num_image must be at least 1, got {self.each} and {self.images}")

    def top_shapes(self, bottom_shapes):
        scores, regions, *_ = bottom_shapes
        if any(shape[:1] != scores[:1] or not shape for shape in bottom_shapes) or math.prod(scores[1:]) != 1:
            raise self.error(f"bottoms must be a score for each of R regions, and (R, ...), got {bottom_shapes}")
        if math.prod(regions[1:]) != 5:
            raise self.error(f"bottom 1 must be regions (R, 5), got {regions}")
        count = min(scores[0], self.images * self.each)
        return [(count, *shape[1:]) for shape in bottom_shapes[1:]]

    def forward_cpu(self, bottom, top):
        scores, images = bottom[0].read_data().ravel(), bottom[1].read_data().reshape(-1, 5)[:, 0]
        if not ((images >= 0) & (images < self.images)).all():
            raise self.error(f"regions must be of images 0 to {self.images - 1}, got {np.unique(images).tolist()}")
        order = np.lexsort((np.arange(len(scores)), scores))[::-1]  # the largest first
        order = order[np.argsort(images[order], kind="stable")]  # of each image
        rank = np.arange(len(order)) - np.searchsorted(images[order], images[order])
        first, others = order[rank < self.each], order[rank >= self.each]
        others = others[np.lexsort((others, scores[others]))[::-1]]
        kept = np.sort(np.concatenate([first, others])[: top[0].shape[0]])
        for blob, source in zip(top, bottom[1:]):
            blob.data = source.read_data()[kept]
