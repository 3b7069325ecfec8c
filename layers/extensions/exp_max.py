"""ExpMax: the exponential function of scores, relative to the largest score of the channels."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.elementwise import log_of_base
from minicaffe.layers.shared.softmax import three_axes


@register("ExpMax")
class ExpMax(Layer):
    """y = base ^ (shift + scale (x - m)), m the largest x among the channels of a place: a softmax before the division.

    In the gradient m counts as a constant: dx = y dy scale ln(base).  What is missing in it cancels where y is divided
    by its sum over the channels, which is what the layer is for.

    bottom, top: (N, C, ...); in place if wanted.
    expmax_param: base (-1, which is e; else above 0), scale (1), shift (0).
    Source: Hui, Tang and Loy, LiteFlowNet, 2018.
    """

    fork = "LiteFlowNet"
    param_field = "expmax_param"
    family = "activation"
    keeps_coordinates = True
    exact_num_bottom = exact_num_top = 1
    in_place = True
    backward_reads = ("top",)

    def setup(self, bottom, top):
        param = self.layer_param.expmax_param
        log_base = log_of_base(self, param.base)
        self.inner = log_base * param.scale
        with np.errstate(over="ignore"):
            self.outer = float(np.exp(log_base * param.shift))

    def top_shapes(self, bottom_shapes):
        if len(bottom_shapes[0]) < 2 or bottom_shapes[0][1] < 1:
            raise self.error(f"bottom 0 must be (N, C, ...), got {bottom_shapes[0]}")
        return bottom_shapes

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.view = three_axes(bottom[0].shape, 1)

    def forward_cpu(self, bottom, top):
        x, y = bottom[0].read_data().reshape(self.view), top[0].data.reshape(self.view)
        np.subtract(x, x.max(axis=1, keepdims=True), out=y)
        y *= self.inner
        np.exp(y, out=y)
        y *= self.outer

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            np.multiply(top[0].read_diff(), top[0].read_data() * self.dtype.type(self.inner), out=bottom[0].diff)

    def forward_gpu(self, bottom, top):
        outer, channels, inner = self.view
        x, y = bottom[0].gpu_data(), top[0].mutable_gpu_data()
        self.kernel("forward")(outer * inner, channels, inner, self.inner, self.outer, x, y)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            n, y, dy = bottom[0].count, top[0].gpu_data(), top[0].gpu_diff()
            dx = bottom[0].mutable_gpu_diff()
            ops.mul(n, y, dy, dx, self.dtype)
            if self.inner != 1:
                ops.scale(n, self.inner, dx, dtype=self.dtype)
