"""Flatten: merges several axes into one."""

import math

from minicaffe.core.blob import canonical_axis
from minicaffe.core.registry import register
from minicaffe.layers.shared.views import SharesMemory


@register("Flatten")
class Flatten(SharesMemory):
    """y = x with axes `axis` to `end_axis`, both included, merged: by default (N, C, H, W) to (N, C*H*W).

    bottom: any shape with these axes; top: shares its memory.
    flatten_param: axis (1), end_axis (-1, the last).
    """

    def top_shapes(self, bottom_shapes):
        shape, param = bottom_shapes[0], self.layer_param.flatten_param
        start, end = canonical_axis(param.axis, len(shape)), canonical_axis(param.end_axis, len(shape))
        if end < start:
            raise self.error(f"end_axis {param.end_axis} lies before axis {param.axis} in bottom 0 {shape}")
        return [shape[:start] + (math.prod(shape[start : end + 1]),) + shape[end + 1 :]]
