"""CombinedMargin: margins in the angle and the cosine of each sample's class (SphereFace, ArcFace, CosFace)."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.label_margin import LabelMargin


@register("CombinedMargin")
class CombinedMargin(LabelMargin):
    """y = x, but for the label of a sample y = cos(m1 t + m2) - m3, t = arccos(x).

    Bottoms: cosines (N, ...), labels, N numbers (below 0: the sample stays as it is).  Top: y, of the shape of the
    cosines, in place if wanted.
    combined_margin_param: m1 (4), m2 (0.5), m3 (0.35).  transform_test has no effect: the margin is added in TEST, too.

    Within 1e-6 of -1 and 1 the derivative, m1 sin(m1 t + m2) / sqrt(1 - x^2), is that at this distance; it is infinite
    at these ends.
    Source: Deng et al., ArcFace, 2018.
    """

    fork = "CombinedMargin"
    constants = ("m1", "m2", "m3")
    cuda_margin = """const Dtype inside = max(Dtype(-0.999999), min(Dtype(0.999999), c));
    const Dtype angle = m1 * acos(inside) + m2;
    y = cos(m1 * acos(max(Dtype(-1), min(Dtype(1), c))) + m2) - m3;
    slope = m1 * sin(angle) / sqrt(1 - inside * inside)"""

    def setup(self, bottom, top):
        super().setup(bottom, top)
        param = self.layer_param.combined_margin_param
        self.m1, self.m2, self.m3 = param.m1, param.m2, param.m3

    def numpy_margin(self, c):
        inside = np.clip(c, -0.999999, 0.999999)
        slope = self.m1 * np.sin(self.m1 * np.arccos(inside) + self.m2) / np.sqrt(1 - inside * inside)
        return np.cos(self.m1 * np.arccos(np.clip(c, -1, 1)) + self.m2) - self.m3, slope
