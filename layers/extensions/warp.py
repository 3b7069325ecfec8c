"""Warp: a picture read at positions that a flow or a grid gives."""

from minicaffe.core.registry import register
from minicaffe.layers.shared.sampler import INSIDE, ZEROS, Sampler


@register("Warp")
class Warp(Sampler):
    """y[c](h, w) = x[c](h + v, w + u), for a flow (u, v), by bilinear interpolation.

    bottoms: x, (N, C, H, W), and the flow, (N, 2, H, W), both with a gradient; top: (N, C, H, W)

    Two forks have a layer of this name; it is LiteFlowNet's with warp_param { absolute: true }, which a net with a Grid
    layer implies.
    PWC-Net (Sun et al., 2018): bottom 1 is a flow; y is 0 at positions outside of 0 to W - 1, 0 to H - 1.  At whole
    positions the gradient to the flow is the mean of the slopes on both sides, of which one outside is 0.
    LiteFlowNet (Hui, Tang and Loy, 2018): bottom 1 has the positions, column and row; outside, x is 0.
    """

    fork = "PWC-Net; LiteFlowNet"

    def setup(self, bottom, top):
        self.absolute = self.layer_param.warp_param.absolute
        self.border = ZEROS if self.absolute else INSIDE
