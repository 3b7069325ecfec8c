"""BNLL: a smooth rectifier, also called softplus."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise, logistic


@register("BNLL")
class BNLL(Elementwise):
    """y = log(1 + exp(x)), computed as max(x, 0) + log(1 + exp(-|x|)); the gradient is the sigmoid of x.

    bottom, top: any shape; in place if wanted.  In place the gradient is the sigmoid of y, as in the original.
    The name: binomial normal log likelihood.  Source: Nair and Hinton, 2010.
    """

    backward_reads = ("bottom",)
    top_serves_as_bottom = True
    exact_gradient_in_place = False

    cuda_forward = "y = (x > 0 ? x : 0) + log1p(exp(-fabs(x)))"
    cuda_backward = "dx = dy * (Dtype(0.5) * tanh(Dtype(0.5) * x) + Dtype(0.5))"

    def numpy_forward(self, x, y):
        tail = np.abs(x)
        np.log1p(np.exp(np.negative(tail, out=tail), out=tail), out=tail)
        np.add(np.maximum(x, 0, out=y), tail, out=y)

    def numpy_backward(self, x, y, dy, dx):
        np.multiply(dy, logistic(x), out=dx)
