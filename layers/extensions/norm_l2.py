"""NormL2: scales samples to length 1."""

from minicaffe.core.registry import register
from minicaffe.layers.extensions.normalize import Normalize


@register("NormL2")
class NormL2(Normalize):
    """y = x / sqrt(sum of x^2 over the sample + 1e-7); Normalize over whole samples, without a scale.

    bottom, top: (N, C, ...), in place if wanted.
    """

    fork = "ArcFace"
    max_top = 1
    more_params = ()

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self.across_spatial, self.eps = True, 1e-7

    @classmethod
    def kernel_file(cls):
        return "extensions/normalize"
