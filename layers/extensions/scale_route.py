"""ScaleRoute: the regions of a range of sizes, such as those for one map of a feature pyramid."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


@register("ScaleRoute")
class ScaleRoute(Layer):
    """Keeps the regions whose area has a square root of at least low_scale, below high_scale.

    bottoms: regions (R, 5), rows (image, x1, y1, x2, y2) in pixels, x2 and y2 being the last ones; others, (R, ...)
    tops: the rows of each bottom that belong to these regions; without any, those of one region, the one that is
        nearest to the middle of the range on a logarithmic scale

    scale_route_param: low_scale (absent: 0), high_scale (absent: any).
    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Lin et al., Feature pyramid networks, 2017; Cai and Vasconcelos, Cascade R-CNN, 2018.
    """

    fork = "Cascade R-CNN"
    min_bottom = 1
    equal_num_bottom_top = True
    always_reshape = True
    capturable = False  # the number of regions depends on values
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        param = self.layer_param.scale_route_param
        self.low = param.low_scale
        self.high = param.high_scale if param.HasField("high_scale") else math.inf
        if not 0 <= self.low <= self.high:
            raise self.error(f"low_scale must be at least 0 and at most high_scale, got {self.low:g} and {self.high:g}")
        ends = [each for each in (self.low, self.high) if 0 < each < math.inf]
        self.middle = math.prod(ends) ** (1 / len(ends)) if ends else 256.0

    def top_shapes(self, bottom_shapes):
        if any(not shape or shape[0] != bottom_shapes[0][0] for shape in bottom_shapes):
            raise self.error(f"bottoms must be (R, ...) of the same R, got {bottom_shapes}")
        if math.prod(bottom_shapes[0][1:]) != 5:
            raise self.error(f"bottom 0 must be regions (R, 5), got {bottom_shapes[0]}")
        return [(min(shape[0], 1), *shape[1:]) for shape in bottom_shapes]

    def forward_cpu(self, bottom, top):
        regions = bottom[0].read_data().reshape(-1, 5)
        sides = np.maximum(regions[:, 3:] - regions[:, 1:3] + 1, 0)
        scales = np.sqrt(np.where((sides < 1).any(1), 0, sides.prod(1)))
        kept = np.flatnonzero((scales >= self.low) & (scales < self.high))
        if not len(kept) and len(scales):
            with np.errstate(divide="ignore"):
                kept = np.abs(np.log2(scales / self.middle)).argmin(keepdims=True)
        for blob, source in zip(top, bottom):
            blob.reshape(len(kept), *source.shape[1:])
            blob.data = source.read_data()[kept]
