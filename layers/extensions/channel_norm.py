"""ChannelNorm: the length of the vector of channels at each place."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.views import by_channel

_EPS = 1e-9  # of the gradient


@register("ChannelNorm")
class ChannelNorm(Layer):
    """y = sqrt(sum over c of x[c]^2); dx = dy x / (y + 1e-9).

    bottom: (N, C, ...); top: (N, 1, ...)

    Source: Ilg et al., FlowNet 2.0, 2017.
    """

    fork = "FlowNet 2.0"
    keeps_coordinates = True
    exact_num_bottom = exact_num_top = 1
    in_place = False
    backward_reads = ("bottom", "top")

    def top_shapes(self, bottom_shapes):
        (shape,) = bottom_shapes
        if len(shape) < 2:
            raise self.error(f"bottom 0 must be (N, C, ...), got {shape}")
        return [(shape[0], 1, *shape[2:])]

    def forward_cpu(self, bottom, top):
        x = by_channel(bottom[0].read_data())
        np.sqrt(np.einsum("ncp,ncp->np", x, x)[:, None], out=by_channel(top[0].data))

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            y, dy = by_channel(top[0].read_data()), by_channel(top[0].read_diff())
            np.multiply(by_channel(bottom[0].read_data()), dy / (y + _EPS), out=by_channel(bottom[0].diff))

    def forward_gpu(self, bottom, top):
        channels, inner = bottom[0].shape[1], bottom[0].count_range(2)
        self.kernel("forward")(top[0].count, channels, inner, bottom[0].gpu_data(), top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            channels, inner = bottom[0].shape[1], bottom[0].count_range(2)
            x, y, dy, dx = bottom[0].gpu_data(), top[0].gpu_data(), top[0].gpu_diff(), bottom[0].mutable_gpu_diff()
            self.kernel("backward")(bottom[0].count, channels, inner, _EPS, x, y, dy, dx)
