"""Swish: x times its own sigmoid, a smooth rectifier."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise, logistic


@register("Swish")
class Swish(Elementwise):
    """y = x * s with s = sigmoid(beta * x); the gradient is beta * y + s * (1 - beta * y).

    bottom, top: any shape; in place if wanted.
    swish_param: beta (1).
    Source: Ramachandran, Zoph and Le, 2017.
    """

    constants = ("beta",)
    cuda_forward = "y = x * (Dtype(0.5) * tanh(Dtype(0.5) * beta * x) + Dtype(0.5))"
    cuda_backward = """
    const Dtype s = Dtype(0.5) * tanh(Dtype(0.5) * beta * x) + Dtype(0.5);
    dx = dy * (beta * y + s * (1 - beta * y))"""
    backward_reads = ("bottom", "top")

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self.beta = self.layer_param.swish_param.beta

    def numpy_forward(self, x, y):
        s = self.beta * x
        np.multiply(x, logistic(s, out=s), out=y)

    def numpy_backward(self, x, y, dy, dx):
        by, s = self.beta * y, self.beta * x
        logistic(s, out=s)
        s *= 1 - by
        s += by
        np.multiply(dy, s, out=dx)
