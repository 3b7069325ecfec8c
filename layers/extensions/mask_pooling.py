"""MaskPooling: multiplies feature maps by a mask."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


@register("MaskPooling")
class MaskPooling(Layer):
    """y[n, c] = x[n, c] * mask[n]

    bottoms: x (N, C, H, W), mask (N, 1, H, W); top: (N, C, H, W).  Both get a gradient.
    Source: Dai, He and Sun, Instance-aware semantic segmentation via multi-task network cascades, 2016.
    """

    fork = "MNC"
    exact_num_bottom = 2
    exact_num_top = 1
    in_place = False
    backward_reads = ("bottom",)

    @classmethod
    def kernel_file(cls):
        return "extensions/channel_scale"

    def top_shapes(self, bottom_shapes):
        x, mask = bottom_shapes
        if len(x) != 4 or mask != (x[0], 1, *x[2:]):
            raise self.error(f"bottoms must be (N, C, H, W) and a mask (N, 1, H, W), got {x} and {mask}")
        return [x]

    def forward_cpu(self, bottom, top):
        np.multiply(bottom[0].read_data(), bottom[1].read_data(), out=top[0].data)

    def backward_cpu(self, top, propagate_down, bottom):
        (x, mask), dy = (blob.read_data() for blob in bottom), top[0].read_diff()
        if propagate_down[0]:
            np.multiply(dy, mask, out=bottom[0].diff)
        if propagate_down[1]:
            bottom[1].diff[...] = (dy * x).sum(1, keepdims=True)

    def forward_gpu(self, bottom, top):
        sizes = top[0].count, top[0].shape[1], top[0].count_range(2)
        self.kernel("scale")(*sizes, bottom[1].gpu_data(), bottom[0].gpu_data(), top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        channels, places, dy = top[0].shape[1], top[0].count_range(2), top[0].gpu_diff()
        if propagate_down[0]:
            mask, dx = bottom[1].gpu_data(), bottom[0].mutable_gpu_diff()
            self.kernel("scale")(top[0].count, channels, places, mask, dy, dx)
        if propagate_down[1]:
            x, dmask = bottom[0].gpu_data(), bottom[1].mutable_gpu_diff()
            self.kernel("scale_gradient")(bottom[1].count, channels, places, x, dy, dmask)
