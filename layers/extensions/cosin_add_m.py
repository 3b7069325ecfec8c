"""CosinAddm: a margin in the angle of each sample's class (ArcFace)."""

import math

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.label_margin import LabelMargin


@register("CosinAddm")
class CosinAddm(LabelMargin):
    """y = x, but for the label of a sample y = cos(t + m), t = arccos(x), if t + m < pi, else x - m sin(pi - m).

    Bottoms: cosines (N, ...), labels, N numbers (below 0: the sample stays as it is).  Top: y, of the shape of the
    cosines, in place if wanted.
    cosin_add_m_param: m (0.5).  transform_test has no effect: the margin is added in TEST, too.
    The derivative is cos m + x sin m / sqrt(1 - x^2), and 1 for t + m >= pi and where x is 1 or above.
    Source: Deng et al., ArcFace, 2018.
    """

    fork = "ArcFace"
    param_field = "cosin_add_m_param"
    constants = ("cosine", "sine", "least", "drop")
    cuda_margin = """const Dtype x = min(Dtype(1), c), other = sqrt(max(Dtype(0), 1 - x * x));
    y = c > least ? x * cosine - other * sine : x - drop;
    slope = c > least && other > 0 ? cosine + sine * x / other : Dtype(1)"""

    def setup(self, bottom, top):
        super().setup(bottom, top)
        m = getattr(self.layer_param, self.param_field).m
        if not math.isfinite(m):
            raise self.error(f"m must be finite, got {m:g}")
        self.cosine, self.sine = math.cos(m), math.sin(m)
        self.least, self.drop = math.cos(math.pi - m), math.sin(math.pi - m) * m

    def numpy_margin(self, c):
        x = np.minimum(c, 1)
        other = np.sqrt(np.maximum(1 - x * x, 0))
        turns, rises = c > self.least, (c > self.least) & (other > 0)
        slope = np.where(rises, self.cosine + self.sine * x / np.where(rises, other, 1), 1)
        return np.where(turns, x * self.cosine - other * self.sine, x - self.drop), slope
