"""SeLu: the self-normalizing exponential linear unit."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise


@register("SeLu")
class SeLu(Elementwise):
    """y = 1.0507 x where x > 0, else 1.0507 * 1.6733 (exp(x) - 1).

    bottom, top: any shape; in place if wanted.
    Source: Klambauer, Unterthiner, Mayr and Hochreiter, Self-normalizing neural networks, 2017.
    """

    fork = "soeaver"
    backward_reads = ("bottom", "top")
    top_serves_as_bottom = True  # only the sign of x is read

    constants = ("alpha", "scale")
    cuda_forward = "y = scale * (x > 0 ? x : alpha * expm1(x))"
    cuda_backward = "dx = dy * (x > 0 ? scale : y + scale * alpha)"
    alpha, scale = 1.6732632423543772, 1.0507009873554805  #: keep mean 0 and variance 1

    def numpy_forward(self, x, y):
        negative = np.expm1(np.minimum(x, 0)) * x.dtype.type(self.alpha)
        np.add(np.maximum(x, 0, out=y), negative, out=y)
        y *= x.dtype.type(self.scale)

    def numpy_backward(self, x, y, dy, dx):
        np.multiply(dy, np.where(x > 0, x.dtype.type(self.scale), y + x.dtype.type(self.scale * self.alpha)), out=dx)
