"""Deconvolution: the transpose of a convolution, for upsampling."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.shared.convolution_base import ConvolutionBase


@register("Deconvolution")
class Deconvolution(ConvolutionBase):
    """y[n, o, t] = b[o] + sum over c, s, j with s * stride + j * dilation - pad = t of w[c, o, j] x[n, c, s]

    The gradient of a Convolution as the forward pass: every input place adds a scaled copy of the filter to the top.

    bottoms: (N, C, *in); tops: (N, num_output, *out) with
        out = stride (in - 1) + dilation (kernel - 1) + 1 - 2 pad
    blobs: weights (C, num_output / group, *kernel), bias (num_output)

    convolution_param: as Convolution's.  With weight_filler "bilinear", group = C = num_output, kernel_size
        2 f - f % 2, stride f and pad ceil((f - 1) / 2) it interpolates by the factor f.
    Source: Long, Shelhamer and Darrell, 2015.
    """

    transposed = True
    resamples = "up"
