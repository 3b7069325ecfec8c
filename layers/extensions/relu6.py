"""ReLU6: a rectifier that stops at 6."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise


@register("ReLU6")
class ReLU6(Elementwise):
    """y = min(max(x, 0), 6); the gradient passes where 0 < x < 6.  (Krizhevsky, 2010; known from MobileNet.)"""

    backward_reads = ("bottom",)
    top_serves_as_bottom = True  # it lies between 0 and 6 where the bottom does

    cuda_forward = "y = x < 0 ? 0 : x > 6 ? 6 : x"
    cuda_backward = "dx = x > 0 && x < 6 ? dy : 0"

    def numpy_forward(self, x, y):
        np.minimum(np.maximum(x, 0, out=y), 6, out=y)

    def numpy_backward(self, x, y, dy, dx):
        np.multiply(dy, (x > 0) & (x < 6), out=dx)
