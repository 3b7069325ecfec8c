"""NdPooling: a Pooling under video-caffe's name, with cuDNN's means."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.pooling import Pooling


@register("NdPooling")
class NdPooling(Pooling):
    """`Pooling`, whose window is given by shapes; AVE divides by the number of elements of a window

    bottom: (N, C, *in), any number of spatial axes; tops: as Pooling's

    pooling_param: as Pooling's; kernel_shape { dim: 1 dim: 2 dim: 2 }, stride_shape (1 on each axis) and pad_shape (0),
        one value for each spatial axis.
    Source: video-caffe, where it needs cuDNN.
    """

    fork = "video-caffe"
    fuses_as = "Pooling"
    whole = True
