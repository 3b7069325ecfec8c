"""TanH: the hyperbolic tangent."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise


@register("TanH")
class TanH(Elementwise):
    """y = tanh(x).  bottom, top: any shape; in place if wanted."""

    backward_reads = ("top",)

    cuda_forward = "y = tanh(x)"
    cuda_backward = "dx = dy * (1 - y * y)"

    def numpy_forward(self, x, y):
        np.tanh(x, out=y)

    def numpy_backward(self, x, y, dy, dx):
        np.multiply(dy, 1 - y * y, out=dx)
