"""ReLU6: a rectifier with an upper limit of 6."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise


@register("ReLU6")
class ReLU6(Elementwise):
    """y = min(max(x, 0), 6); the gradient is dy where 0 < x < 6, else 0.

    bottom, top: any shape; in place if wanted.
    Source: Krizhevsky, 2010; used by MobileNet.
    """

    fork = "ports of MobileNet"
    backward_reads = ("bottom",)
    top_serves_as_bottom = True  # y is between 0 and 6 exactly where x is

    cuda_forward = "y = x < 0 ? 0 : x > 6 ? 6 : x"
    cuda_backward = "dx = x > 0 && x < 6 ? dy : 0"

    def numpy_forward(self, x, y):
        np.minimum(np.maximum(x, 0, out=y), 6, out=y)

    def numpy_backward(self, x, y, dy, dx):
        np.multiply(dy, (x > 0) & (x < 6), out=dx)
