"""PReLU: a rectifier with a learned slope for negative numbers."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.broadcast import Broadcast
from minicaffe.layers.shared.elementwise import rectified_slope


@register("PReLU")
class PReLU(Broadcast):
    """y = max(x, 0) + slope * min(x, 0), with a slope for each channel, or one for all.

    Bottom: (N, C, ...).  Top: the same shape; in place if wanted.
    Blobs: slope, (C,), or () when channel_shared.
    prelu_param: filler (constant 0.25), channel_shared (false).
    Source: He, Zhang, Ren and Sun, 2015.
    """

    family = "activation"
    exact_num_bottom = 1
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        param = self.layer_param.prelu_param
        if not param.HasField("filler"):
            param.filler.type, param.filler.value = "constant", 0.25
        self.axis, self.num_axes, self.learned = 1, 0 if param.channel_shared else 1, True

    def param_shapes(self, bottom_shapes):
        self.top_shapes(bottom_shapes)
        return [(self.operand_shape(bottom_shapes), self.layer_param.prelu_param.filler)]

    def top_shapes(self, bottom_shapes):
        if len(bottom_shapes[0]) < 2:
            raise self.error(f"bottom 0 must be (N, C, ...), got {bottom_shapes[0]}")
        return super().top_shapes(bottom_shapes)

    def forward_cpu(self, bottom, top):
        x, slope = self.over_axes(bottom[0].read_data()), self.blobs[0].read_data().reshape(-1, 1)
        negative = np.minimum(x, 0)
        negative *= slope
        y = np.maximum(x, 0, out=self.over_axes(top[0].data))
        y += negative

    def backward_cpu(self, top, propagate_down, bottom):
        x, dy = self.over_axes(bottom[0].read_data()), self.over_axes(top[0].read_diff())
        if self.param_propagate_down[0]:
            self.blobs[0].diff.reshape(-1)[:] += self.sum_to_operand(dy * np.minimum(x, 0))
        if propagate_down[0]:
            slope = self.blobs[0].read_data().reshape(-1, 1)
            np.multiply(dy, rectified_slope(x, slope), out=self.over_axes(bottom[0].diff))

    def forward_gpu(self, bottom, top):
        x, slope = bottom[0].gpu_data(), self.blobs[0].gpu_data()
        self.launch_rows("rectify", x, slope, x, top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        x, dy = bottom[0].gpu_data(), top[0].gpu_diff()
        if self.param_propagate_down[0]:
            self.sum_to_operand_gpu(True, dy, x, self.blobs[0].mutable_gpu_diff(), negative=True)
        if propagate_down[0]:
            self.launch_rows("rectify", x, self.blobs[0].gpu_data(), dy, bottom[0].mutable_gpu_diff())
