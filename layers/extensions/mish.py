"""Mish: x times the tanh of its softplus, a smooth rectifier."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise, logistic


@register("Mish")
class Mish(Elementwise):
    """y = x t with t = tanh(log(1 + exp(x))); the gradient is t + x (1 - t t) / (1 + exp(-x)).

    bottom, top: any shape; in place if wanted.
    Source: Misra, Mish: a self regularized non-monotonic activation function, 2019; YOLOv4.
    """

    fork = "YOLO"
    backward_reads = ("bottom",)

    cuda_forward = "y = x * tanh((x > 0 ? x : 0) + log1p(exp(-fabs(x))))"
    cuda_backward = """
    const Dtype t = tanh((x > 0 ? x : 0) + log1p(exp(-fabs(x))));
    dx = dy * (t + x * (1 - t * t) * (Dtype(0.5) * tanh(Dtype(0.5) * x) + Dtype(0.5)))"""

    def numpy_forward(self, x, y):
        np.multiply(x, _slope(x), out=y)

    def numpy_backward(self, x, y, dy, dx):
        t = _slope(x)
        np.multiply(dy, t + x * (1 - t * t) * logistic(x), out=dx)


def _slope(x: np.ndarray) -> np.ndarray:
    """Return tanh(log(1 + exp(x)))."""
    return np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))
