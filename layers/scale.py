"""Scale: multiplies by a learned factor or a second bottom, and optionally adds a learned bias."""

import math

import numpy as np

from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.broadcast import Broadcast
from minicaffe.layers.shared.views import channel_products
from minicaffe.proto.caffe_pb2 import ScaleParameter


@register("Scale")
class Scale(Broadcast):
    """y = s * x + b, with s and b broadcast over the axes that they do not cover.

    Bottoms: x; optionally s, of the shape of x from `axis` on.  Top: y, of the shape of x; in place if wanted.
    Blobs: s, when there is no second bottom; b, of the same shape, when bias_term.
    scale_param: axis (1), num_axes (1; -1: all axes from `axis` on, 0: s is one number), filler (constant 1), bias_term
    (false), bias_filler (constant 0).
    Extensions (NormFace): min_value, max_value (absent: none): each forward pass, in TEST too, limits the stored s.
    """

    backward_reads = ("bottom",)

    @property
    def repeatable(self):  # type: ignore[override]  # nothing sets it
        return False if self.limited else None  # a pass changes the scale

    def setup(self, bottom, top):
        self.read_param(self.layer_param.scale_param, bottom)

    def read_param(self, param: ScaleParameter, bottom) -> None:
        """Read all fields of `param`."""
        self.param = param
        self.read_axes(param, bottom)
        if not param.HasField("filler"):
            param.filler.type, param.filler.value = "constant", 1  # other layers default to 0
        self.limits = (
            (param.min_value if param.HasField("min_value") else -math.inf),
            (param.max_value if param.HasField("max_value") else math.inf),
        )
        self.limited = self.learned and self.limits != (-math.inf, math.inf)
        if self.limited:
            self.fuses_as = "Scale with limits"
        self.bias_index = (1 if self.learned else 0) if param.bias_term else None

    def param_shapes(self, bottom_shapes):
        shape, param = self.operand_shape(bottom_shapes), self.param
        scale = [(shape, param.filler)] if self.learned else []
        return scale + ([(shape, param.bias_filler)] if param.bias_term else [])

    def apply_limits(self) -> None:
        """Limit the stored s, as a forward pass does."""
        if self.limited:
            np.clip(self.blobs[0].data, *self.limits, out=self.blobs[0].data)

    def forward_cpu(self, bottom, top):
        self.apply_limits()
        x, y = self.over_axes(bottom[0].read_data()), self.over_axes(top[0].data)
        s = (self.blobs[0] if self.learned else bottom[1]).read_data().reshape(-1, 1)
        np.multiply(x, s, out=y)
        if self.bias_index is not None:
            y += self.blobs[self.bias_index].read_data().reshape(-1, 1)

    def backward_cpu(self, top, propagate_down, bottom):
        x, dy = self.over_axes(bottom[0].read_data()), self.over_axes(top[0].read_diff())
        if self.bias_index is not None and self.param_propagate_down[self.bias_index]:
            self.blobs[self.bias_index].diff.reshape(-1)[:] += self.sum_to_operand(dy)
        if self.learned and self.param_propagate_down[0]:
            self.blobs[0].diff.reshape(-1)[:] += channel_products(dy, x)
        elif not self.learned and propagate_down[1]:
            bottom[1].diff.reshape(-1)[:] = channel_products(dy, x)
        if propagate_down[0]:
            s = (self.blobs[0] if self.learned else bottom[1]).read_data().reshape(-1, 1)
            np.multiply(dy, s, out=self.over_axes(bottom[0].diff))

    def forward_gpu(self, bottom, top):
        if self.limited:
            ops.limit(self.blobs[0].count, *self.limits, self.blobs[0].mutable_gpu_data(), self.dtype)
        x = bottom[0].gpu_data()
        s = (self.blobs[0] if self.learned else bottom[1]).gpu_data()
        b = 0 if self.bias_index is None else self.blobs[self.bias_index].gpu_data()
        self.launch_rows("scale_bias", x, s, b, top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        x, dy = bottom[0].gpu_data(), top[0].gpu_diff()
        if self.bias_index is not None and self.param_propagate_down[self.bias_index]:
            self.sum_to_operand_gpu(True, dy, 0, self.blobs[self.bias_index].mutable_gpu_diff())
        if self.learned and self.param_propagate_down[0]:
            self.sum_to_operand_gpu(True, dy, x, self.blobs[0].mutable_gpu_diff())
        elif not self.learned and propagate_down[1]:
            self.sum_to_operand_gpu(False, dy, x, bottom[1].mutable_gpu_diff())
        if propagate_down[0]:
            s = (self.blobs[0] if self.learned else bottom[1]).gpu_data()
            self.launch_rows("scale_bias", dy, s, 0, bottom[0].mutable_gpu_diff())
