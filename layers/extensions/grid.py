"""Grid: the position of every place of a picture."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


@register("Grid")
class Grid(Layer):
    """y[0](h, w) = w, y[1](h, w) = h: what a flow is added to for LiteFlowNet's Warp.

    bottom: (N, C, H, W), of which only the size is read, without a gradient; top: (N, 2, H, W)

    Source: Hui, Tang and Loy, LiteFlowNet, 2018.
    """

    fork = "LiteFlowNet"
    exact_num_bottom = exact_num_top = 1
    no_gradient = (0,)
    in_place = False
    backward_reads = ()

    def top_shapes(self, bottom_shapes):
        (shape,) = bottom_shapes
        if len(shape) != 4:
            raise self.error(f"bottom 0 must be (N, C, H, W), got {shape}")
        return [(shape[0], 2, *shape[2:])]

    def forward_cpu(self, bottom, top):
        height, width = bottom[0].shape[2:]
        top[0].data[:, 0], top[0].data[:, 1] = np.arange(width), np.arange(height)[:, None]

    def forward_gpu(self, bottom, top):
        self.kernel("forward")(top[0].count, *bottom[0].shape[2:], top[0].mutable_gpu_data())
