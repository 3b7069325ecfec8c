"""Exp: a base raised to a linear function of x."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise, log_of_base


@register("Exp")
class Exp(Elementwise):
    """y = base ^ (shift + scale * x) = outer * exp(inner * x), with inner = scale * ln base, outer = base ^ shift.

    bottom, top: any shape; in place if wanted.
    exp_param: base (-1, which is e; else above 0), scale (1), shift (0).
    """

    backward_reads = ("top",)

    constants = ("inner", "outer")
    cuda_forward = "y = outer * exp(inner * x)"
    cuda_backward = "dx = dy * y * inner"

    def setup(self, bottom, top):
        super().setup(bottom, top)
        param = self.layer_param.exp_param
        log_base = log_of_base(self, param.base)
        self.inner = log_base * param.scale
        with np.errstate(over="ignore"):
            self.outer = float(np.exp(log_base * param.shift))

    def numpy_forward(self, x, y):
        np.exp(np.multiply(x, self.inner, out=y), out=y)
        y *= self.outer

    def numpy_backward(self, x, y, dy, dx):
        np.multiply(dy, y * self.inner, out=dx)
