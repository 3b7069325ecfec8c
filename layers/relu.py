"""ReLU: the rectifier, with an optional slope for negative numbers."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise, rectified_slope


@register("ReLU")
class ReLU(Elementwise):
    """y = max(x, 0) + negative_slope * min(x, 0); at 0 the gradient is negative_slope.

    bottom, top: any shape; in place if wanted.
    relu_param: negative_slope (0).
    Source: Nair and Hinton, 2010; leaky: Maas, Hannun and Ng, 2013.
    """

    backward_reads = ("bottom",)
    reads_signs = True

    constants = ("negative_slope",)
    cuda_forward = "y = x < 0 ? (negative_slope == 0 ? Dtype(0) : x * negative_slope) : x"
    cuda_backward = "dx = x > 0 ? dy : dy * negative_slope"

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self.negative_slope = self.layer_param.relu_param.negative_slope
        self.top_serves_as_bottom = self.keeps_signs = self.negative_slope >= 0

    def numpy_forward(self, x, y):
        if self.negative_slope == 0:
            np.maximum(x, 0, out=y)
        else:
            larger = np.maximum if self.negative_slope <= 1 else np.minimum  # of x and slope * x
            larger(x, self.negative_slope * x, out=y)

    def numpy_backward(self, x, y, dy, dx):
        if self.negative_slope == 0:
            np.multiply(dy, x > 0, out=dx)
        else:
            np.multiply(dy, rectified_slope(x, self.negative_slope), out=dx)
