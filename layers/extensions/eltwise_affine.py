"""EltwiseAffine: a learned factor and shift for each channel."""

from minicaffe.core.registry import register
from minicaffe.layers.extensions.m2pelu import filled
from minicaffe.layers.scale import Scale
from minicaffe.proto.caffe_pb2 import ScaleParameter


@register("EltwiseAffine")
class EltwiseAffine(Scale):
    """y = a x + b, with a and b for each channel, or one of each for all; Scale with bias_term under another name.

    bottom: (N, C, ...).  top: the same shape; in place if wanted.
    blobs: a, b, each (C), or () with channel_shared.
    eltwise_affine_param: slope_filler (constant 1.0001), bias_filler (constant 0.0001), channel_shared (false).
    """

    fork = "ducha-aiki"
    exact_num_bottom = 1
    param_field = "eltwise_affine_param"

    @property
    def scale_param(self):
        param = self.layer_param.eltwise_affine_param
        fillers = filled(param, "slope_filler", 1.0001), filled(param, "bias_filler", 0.0001)
        axes = 0 if param.channel_shared else 1
        return ScaleParameter(axis=1, num_axes=axes, filler=fillers[0], bias_term=True, bias_filler=fillers[1])
