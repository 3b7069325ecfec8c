"""NdConvolution: a Convolution under video-caffe's name."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.convolution import Convolution


@register("NdConvolution")
class NdConvolution(Convolution):
    """`Convolution`, whose window is given by shapes

    bottoms: (N, C, *in), any number of spatial axes; tops: (N, num_output, *out)
    blobs: weights (num_output, C / group, *kernel), bias (num_output)

    convolution_param: as Convolution's; kernel_shape { dim: 3 dim: 3 dim: 3 }, stride_shape (1 on each axis) and
        pad_shape (0), one value for each spatial axis.
    Source: video-caffe, where it needs cuDNN.
    """

    fork = "video-caffe"
    fuses_as = "Convolution"
