"""AbsVal: the absolute value of every number."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise


@register("AbsVal")
class AbsVal(Elementwise):
    """y = |x|; the gradient is dy * sign(x), 0 at x = 0.

    bottom, top: any shape.  Not in place, as in the original.
    """

    in_place = False
    backward_reads = ("bottom",)

    cuda_forward = "y = fabs(x)"
    cuda_backward = "dx = x > 0 ? dy : x < 0 ? -dy : 0"

    def numpy_forward(self, x, y):
        np.abs(x, out=y)

    def numpy_backward(self, x, y, dy, dx):
        np.multiply(dy, np.sign(x), out=dx)
