"""Log: the logarithm of a linear function of x."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise, log_of_base


@register("Log")
class Log(Elementwise):
    """y = log(shift + scale * x) / log(base).

    bottom, top: any shape; in place if wanted.
    log_param: base (-1, which is e; else above 0 and not 1), scale (1), shift (0).
    """

    backward_reads = ("bottom",)
    constants = ("scale", "shift", "factor")
    cuda_forward = "y = factor * log(shift + scale * x)"
    cuda_backward = "dx = dy * factor * scale / (shift + scale * x)"

    def setup(self, bottom, top):
        super().setup(bottom, top)
        param = self.layer_param.log_param
        log_base = log_of_base(self, param.base)
        if log_base == 0:
            raise self.error("base must not be 1: its logarithm is 0")
        self.scale, self.shift, self.factor = param.scale, param.shift, 1 / log_base

    def numpy_forward(self, x, y):
        np.multiply(x, self.scale, out=y)
        y += self.shift
        with np.errstate(divide="ignore", invalid="ignore"):
            np.log(y, out=y)
        y *= self.factor

    def numpy_backward(self, x, y, dy, dx):
        with np.errstate(divide="ignore", invalid="ignore"):
            np.multiply(dy, self.factor * self.scale / (self.scale * x + self.shift), out=dx)
