"""ConvolutionDepthwise and DepthwiseConvolution: a Convolution with one group for each channel."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.convolution import Convolution


@register("ConvolutionDepthwise")
class ConvolutionDepthwise(Convolution):
    """Each channel has filters of its own: `Convolution` with group = C by default.

    bottoms: (N, C, *in); tops: (N, num_output, *out); num_output is C or a multiple of it
    blobs: weights (num_output, 1, *kernel), bias (num_output)

    convolution_param: as Convolution's.  A Convolution with group = C uses the same fast method.
    """

    fork = "ports of MobileNet and ShuffleNet"
    fuses_as = "Convolution"

    def groups(self, param):
        return param.group if param.HasField("group") else self.channels


@register("DepthwiseConvolution")
class DepthwiseConvolution(ConvolutionDepthwise):
    """Another name for ConvolutionDepthwise."""
