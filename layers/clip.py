"""Clip: limits numbers to an interval."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise


@register("Clip")
class Clip(Elementwise):
    """y = min(max(x, min), max); the gradient is dy where min <= x <= max, else 0.

    bottom, top: any shape; in place if wanted.  In place the gradient is dy everywhere, as in the original: backward
    reads y for x, which never is outside the limits.
    clip_param: min, max; both required.
    """

    backward_reads = ("bottom",)
    top_serves_as_bottom = True
    exact_gradient_in_place = False

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
