"""ELU: the exponential linear unit."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise, rectified_slope


@register("ELU")
class ELU(Elementwise):
    """y = x where x > 0, else alpha * (exp(x) - 1); the gradient is dy or dy * (y + alpha).

    bottom, top: any shape; in place if wanted.
    elu_param: alpha (1).
    Source: Clevert, Unterthiner and Hochreiter, 2015.
    """

    backward_reads = ("bottom", "top")

    constants = ("alpha",)
    cuda_forward = "y = x > 0 ? x : alpha * expm1(x)"
    cuda_backward = "dx = x > 0 ? dy : dy * (y + alpha)"

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self.alpha = self.layer_param.elu_param.alpha
        self.top_serves_as_bottom = self.alpha >= 0  # only the sign of x is read

    def numpy_forward(self, x, y):
        negative = np.minimum(x, 0)
        np.expm1(negative, out=negative)
        negative *= self.alpha
        np.add(np.maximum(x, 0, out=y), negative, out=y)

    def numpy_backward(self, x, y, dy, dx):
        np.multiply(dy, rectified_slope(x, y + self.alpha), out=dx)
