"""Convolution3D and Deconvolution3D: C3D's convolutions over time, rows and columns."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.deconvolution import Deconvolution
from minicaffe.layers.shared.convolution_base import ConvolutionBase
from minicaffe.proto.caffe_pb2 import ConvolutionParameter


class _OverTime(ConvolutionBase):
    """The parameters of both, from either message."""

    more_params = ("convolution3d_param",)

    @property
    def convolution_param(self):
        given = self.layer_param
        if given.HasField("convolution3d_param"):
            param = ConvolutionParameter()
            for field, value in given.convolution3d_param.ListFields():
                own = getattr(param, field.name)
                if hasattr(own, "append"):
                    own.append(value)
                elif field.message_type is None:
                    setattr(param, field.name, value)
                else:
                    own.CopyFrom(value)
        else:
            param = given.convolution_param
        if not param.HasField("kernel_depth"):
            raise self.error("kernel_depth must be given, the size of the kernel along time")
        return param


@register("Convolution3D")
class Convolution3D(_OverTime, Convolution):
    """`Convolution` over time, rows and columns

    bottom: (N, C, L, H, W); top: (N, num_output, l, h, w), with sizes as Convolution's
    blobs: weights (num_output, C / group, kernel_depth, kernel_size, kernel_size), bias (num_output)

    convolution3d_param, or convolution_param as in C3D v1.0: num_output, kernel_depth, kernel_size, stride 1,
        temporal_stride 1, pad 0, temporal_pad 0, group 1, bias_term true, weight_filler and bias_filler constant 0.
    Source: Tran et al., Learning Spatiotemporal Features with 3D Convolutional Networks, 2015.
    """

    fork = "C3D"
    fuses_as = "Convolution"


@register("Deconvolution3D")
class Deconvolution3D(_OverTime, Deconvolution):
    """`Deconvolution` over time, rows and columns

    bottom: (N, C, L, H, W); top: (N, num_output, l, h, w), with sizes as Deconvolution's
    blobs: weights (C, num_output / group, kernel_depth, kernel_size, kernel_size), bias (num_output)

    Parameters as Convolution3D's.
    Source: Tran et al., Deep End2End Voxel2Voxel Prediction, 2016.
    """

    fork = "C3D"
    fuses_as = "Deconvolution"
