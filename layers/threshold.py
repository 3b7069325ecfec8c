"""Threshold: a step function."""

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import Elementwise


@register("Threshold")
class Threshold(Elementwise):
    """y = 1 where x > threshold, else 0; no gradient.

    bottom, top: any shape; in place if wanted.
    threshold_param: threshold (0).
    """

    backward_reads = ()

    constants = ("threshold",)
    cuda_forward = "y = x > threshold"

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self.threshold = self.layer_param.threshold_param.threshold

    def numpy_forward(self, x, y):
        y[:] = x > x.dtype.type(self.threshold)
