"""FlowWarp: a picture read at positions that a flow gives."""

from minicaffe.core.registry import register
from minicaffe.layers.shared.sampler import EDGE, Sampler
from minicaffe.proto.caffe_pb2 import FlowWarpParameter


@register("FlowWarp")
class FlowWarp(Sampler):
    """y[c](h, w) = x[c](h + v, w + u), for a flow (u, v), by bilinear interpolation.

    Positions from 0 up to W, H, these excluded, are in the picture, whose last row and column are repeated.

    bottoms: x, (N, C, H, W), and the flow, (N, 2, H, W), both with a gradient; top: (N, C, H, W)

    flow_warp_param: fill_value (ZERO; NOT_A_NUMBER), the value at positions outside of the picture.
    Source: Ilg et al., FlowNet 2.0, 2017.
    """

    border = EDGE

    def setup(self, bottom, top):
        nan = self.layer_param.flow_warp_param.fill_value == FlowWarpParameter.NOT_A_NUMBER
        self.outside = float("nan") if nan else 0.0
