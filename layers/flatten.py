"""Flatten: several axes as one."""

import math

from minicaffe.core.blob import canonical_axis
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


class SharesMemory(Layer):
    """Base of layers whose top is their bottom under another shape: nothing is computed, data and diff are shared."""

    exact_num_bottom = exact_num_top = 1
    in_place = False
    backward_reads = ()

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        top[0].share_data(bottom[0])
        top[0].share_diff(bottom[0])

    def forward_cpu(self, bottom, top):
        pass

    def backward_cpu(self, top, propagate_down, bottom):
        pass

    forward_gpu, backward_gpu = forward_cpu, backward_cpu


@register("Flatten")
class Flatten(SharesMemory):
    """(N, C, H, W) to (N, C*H*W): axes `axis` to `end_axis`, both included, become one.

    flatten_param: axis (1), end_axis (-1, the last).
    """

    def top_shapes(self, bottom_shapes):
        shape, param = bottom_shapes[0], self.layer_param.flatten_param
        start, end = canonical_axis(param.axis, len(shape)), canonical_axis(param.end_axis, len(shape))
        if end < start:
            raise self.error(f"end_axis {param.end_axis} lies before axis {param.axis} in bottom 0 {shape}")
        return [shape[:start] + (math.prod(shape[start : end + 1]),) + shape[end + 1 :]]
