"""Sigmoid: the logistic function."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise, logistic


@register("Sigmoid")
class Sigmoid(Elementwise):
    """y = 1 / (1 + exp(-x)), computed as 0.5 tanh(0.5 x) + 0.5, which cannot overflow.

    bottom, top: any shape; in place if wanted.
    """

    backward_reads = ("top",)

    cuda_forward = "y = Dtype(0.5) * tanh(Dtype(0.5) * x) + Dtype(0.5)"
    cuda_backward = "dx = dy * y * (1 - y)"

    def numpy_forward(self, x, y):
        logistic(x, y)

    def numpy_backward(self, x, y, dy, dx):
        np.multiply(dy, y * (1 - y), out=dx)
