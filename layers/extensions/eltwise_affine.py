"""EltwiseAffine: a learned factor and shift for each channel."""

from minicaffe.core.registry import register
from minicaffe.layers.scale import Scale
from minicaffe.layers.shared.broadcast import filled
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

    def setup(self, bottom, top):
        param = self.layer_param.eltwise_affine_param
        slope, bias = filled(param, "slope_filler", 1.0001), filled(param, "bias_filler", 0.0001)
        axes = 0 if param.channel_shared else 1
        self.read_param(ScaleParameter(num_axes=axes, bias_term=True, filler=slope, bias_filler=bias), bottom)
