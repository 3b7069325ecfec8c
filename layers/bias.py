"""Bias: adds a learned term or a second bottom."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.broadcast import Broadcast


@register("Bias")
class Bias(Broadcast):
    """y = x + b, with b broadcast over the axes that it does not cover.

    Bottoms: x; optionally b, of the shape of x from `axis` on.  Top: y, of the shape of x; in place if wanted.
    Blobs: b, when there is no second bottom.
    bias_param: axis (1), num_axes (1; -1: all axes from `axis` on, 0: b is one number), filler (constant 0).
    """

    backward_reads = ()

    def setup(self, bottom, top):
        self.read_axes(self.layer_param.bias_param, bottom)

    def param_shapes(self, bottom_shapes):
        return [(self.operand_shape(bottom_shapes), self.layer_param.bias_param.filler)] if self.learned else []

    def forward_cpu(self, bottom, top):
        b = (self.blobs[0] if self.learned else bottom[1]).read_data().reshape(-1, 1)
        np.add(self.over_axes(bottom[0].read_data()), b, out=self.over_axes(top[0].data))

    def backward_cpu(self, top, propagate_down, bottom):
        dy = top[0].read_diff()
        if self.learned and self.param_propagate_down[0]:
            self.blobs[0].diff.reshape(-1)[:] += self.sum_to_operand(dy)
        elif not self.learned and propagate_down[1]:
            bottom[1].diff.reshape(-1)[:] = self.sum_to_operand(dy)
        if propagate_down[0] and bottom[0] is not top[0]:
            bottom[0].diff[...] = dy

    def forward_gpu(self, bottom, top):
        b = (self.blobs[0] if self.learned else bottom[1]).gpu_data()
        x, y = bottom[0].gpu_data(), top[0].mutable_gpu_data()
        self.launch_rows("scale_bias", x, 0, b, y)

    def backward_gpu(self, top, propagate_down, bottom):
        dy = top[0].gpu_diff()
        if self.learned and self.param_propagate_down[0]:
            self.sum_to_operand_gpu(True, dy, 0, self.blobs[0].mutable_gpu_diff())
        elif not self.learned and propagate_down[1]:
            self.sum_to_operand_gpu(False, dy, 0, bottom[1].mutable_gpu_diff())
        if propagate_down[0] and bottom[0] is not top[0]:
            ops.copy(bottom[0].count, dy, bottom[0].mutable_gpu_diff(), self.dtype)
