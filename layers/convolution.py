"""Convolution: learned filters slide over the bottoms."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.shared.convolution_base import ConvolutionBase


@register("Convolution")
class Convolution(ConvolutionBase):
    """y[n, o, t] = b[o] + sum over c, j of w[o, c, j] x[n, c, t * stride + j * dilation - pad]

    bottoms: (N, C, *in), any number of spatial axes; tops: (N, num_output, *out) with
        out = floor((in + 2 pad - (dilation (kernel - 1) + 1)) / stride) + 1
    blobs: weights (num_output, C / group, *kernel), bias (num_output)

    convolution_param: num_output, kernel_size (or kernel_h, kernel_w), stride 1, pad 0, dilation 1, group 1,
        bias_term true, weight_filler and bias_filler constant 0, axis 1.  Each spatial field once or once for each
        axis.

    With group = C = num_output (depthwise) a faster method than the matrix product is used.
    Source: LeCun et al., 1998; dilation: Yu and Koltun, 2016.
    """
