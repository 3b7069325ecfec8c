"""Cosine: cos x."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise


@register("Cosine")
class Cosine(Elementwise):
    """y = cos x; the gradient is -dy sin x.

    bottom, top: any shape; in place if wanted.
    """

    fork = "NormFace"
    backward_reads = ("bottom",)
    cuda_forward = "y = cos(x)"
    cuda_backward = "dx = -dy * sin(x)"

    def numpy_forward(self, x, y):
        np.cos(x, out=y)

    def numpy_backward(self, x, y, dy, dx):
        np.multiply(dy, -np.sin(x), out=dx)
