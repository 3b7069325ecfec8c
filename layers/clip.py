"""Clip: limits on both sides."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise


@register("Clip")
class Clip(Elementwise):
    """y = x between min and max, min below, max above; outside the limits there is no gradient.

    clip_param: min, max; both required.  In place the gradient passes everywhere, as in the original: the y that
    backward finds never lies outside.
    """

    backward_reads = ("bottom",)
    top_serves_as_bottom = True

    constants = ("low", "high")
    cuda_forward = "y = x < low ? low : x > high ? high : x"
    cuda_backward = "dx = x >= low && x <= high ? dy : 0"

    def setup(self, bottom, top):
        super().setup(bottom, top)
        param = self.layer_param.clip_param
        if not (param.HasField("min") and param.HasField("max")):
            raise self.error("clip_param must give both min and max")
        self.low, self.high = param.min, param.max

    def numpy_forward(self, x, y):
        np.minimum(np.maximum(x, self.low, out=y), self.high, out=y)

    def numpy_backward(self, x, y, dy, dx):
        np.multiply(dy, (x >= x.dtype.type(self.low)) & (x <= x.dtype.type(self.high)), out=dx)
