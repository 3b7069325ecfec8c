"""Pooling3D: C3D's pooling over time, rows and columns."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.pooling import Pooling
from minicaffe.proto.caffe_pb2 import PoolingParameter

#: fields of P3D's prototxts, and C3D's for the same
_P3D = {"kernel_l": "kernel_depth", "stride_l": "temporal_stride", "pad_l": "temporal_pad"}


@register("Pooling3D")
class Pooling3D(Pooling):
    """`Pooling` over time, rows and columns: MAX or AVE

    bottom: (N, C, L, H, W); top: (N, C, l, h, w), with sizes as Pooling's; a window that begins in the far padding is
    not left out

    pooling3d_param, or pooling_param as in C3D v1.0: pool MAX, kernel_depth, kernel_size, stride 1, temporal_stride 1,
        pad 0 (of rows and columns); P3D's kernel_l, stride_l and pad_l 0 are the kernel, stride and padding along time.
    Source: Tran et al., Learning Spatiotemporal Features with 3D Convolutional Networks, 2015.
    """

    fork = "C3D"
    fuses_as = "Pooling"
    param_field = "pooling3d_param"
    more_params = ("pooling_param",)
    clips = False
    max_top = 1

    @property
    def pooling_param(self):
        param = self.layer_param.pooling_param
        if self.layer_param.HasField("pooling3d_param"):
            param = PoolingParameter()
            for field, value in self.layer_param.pooling3d_param.ListFields():
                setattr(param, _P3D.get(field.name, field.name), value)
        if not param.HasField("kernel_depth"):
            raise self.error("kernel_depth must be given, the size of the window along time")
        return param
