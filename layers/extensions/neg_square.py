"""NegSquare: the negative square of every number."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise


@register("NegSquare")
class NegSquare(Elementwise):
    """y = -x^2.

    bottom, top: any shape; in place if wanted.
    Source: Hui, Tang and Loy, LiteFlowNet, 2018.
    """

    fork = "LiteFlowNet"
    backward_reads = ("bottom",)

    cuda_forward = "y = -x * x"
    cuda_backward = "dx = -2 * x * dy"

    def numpy_forward(self, x, y):
        np.negative(np.multiply(x, x, out=y), out=y)

    def numpy_backward(self, x, y, dy, dx):
        np.multiply(dy, -2 * x, out=dx)
