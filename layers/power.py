"""Power: a linear function of x raised to a power."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise


@register("Power")
class Power(Elementwise):
    """y = (shift + scale * x) ^ power.

    bottom, top: any shape; in place if wanted.
    power_param: power (1), scale (1), shift (0).  If power * scale is 0 the top is constant.

    In place the gradient is (dy/dx)^2, as in the original, which overwrites the top's diff with dy/dx before it
    multiplies the two.  Give the top its own name where a gradient is needed.
    """

    backward_reads: tuple[str, ...] = ("bottom", "top")
    top_serves_as_bottom = True
    exact_gradient_in_place = False
    constants = ("power", "scale", "shift", "slope", "squares")
    cuda_forward = """
    const Dtype base = shift + scale * x;
    y = slope == 0 ? pow(shift, power) : power == 1 ? base : power == 2 ? base * base : pow(base, power)"""
    cuda_backward = """
    const Dtype base = shift + scale * x;
    const Dtype factor = slope * (slope == 0 || power == 1 ? Dtype(1) : power == 2 ? base :
                                  base == 0 ? pow(base, power - 1) : y / base);
    dx = factor * (squares ? factor : dy)"""

    def setup(self, bottom, top):
        super().setup(bottom, top)
        param = self.layer_param.power_param
        self.power, self.scale, self.shift = param.power, param.scale, param.shift
        self.slope = self.power * self.scale
        self.squares = bottom[0] is top[0]
        if self.slope == 0 or self.power == 1:
            self.backward_reads = ()
        elif self.power == 2:
            self.backward_reads = ("bottom",)

    def numpy_forward(self, x, y):
        if self.slope == 0:
            y[:] = np.power(y.dtype.type(self.shift), self.power)
            return
        np.multiply(x, self.scale, out=y)
        y += self.shift
        if self.power == 2:
            np.square(y, out=y)
        elif self.power != 1:
            np.power(y, self.power, out=y)

    def numpy_backward(self, x, y, dy, dx):
        if self.slope == 0 or self.power == 1:
            factor = self.slope
        elif self.power == 2:
            factor = self.slope * self.scale * x + self.slope * self.shift
        else:
            base = self.scale * x + self.shift
            with np.errstate(divide="ignore", invalid="ignore"):
                factor = y / base
                factor[base == 0] = np.power(x.dtype.type(0), self.power - 1)
            factor *= self.slope
        np.multiply(factor, factor if self.squares else dy, out=dx)
