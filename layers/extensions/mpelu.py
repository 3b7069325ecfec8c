"""MPELU: M2PELU with a shift of the exponent."""

from minicaffe.core.registry import register
from minicaffe.layers.extensions.m2pelu import M2PELU
from minicaffe.layers.shared.broadcast import filled


@register("MPELU")
class MPELU(M2PELU):
    """y = max(x, 0) + alpha (exp(beta min(x, 0) + gamma) - exp(gamma)), with a number of each for each channel.

    bottom: (N, C, ...).  top: the same shape; in place if wanted.
    blobs: alpha, beta, gamma, each (C), or () with channel_shared.
    mpelu_param: alpha_filler (constant 1), beta_filler (constant 1), gamma_filler (constant 0), channel_shared (false).
    An earlier form of M2PELU, which it equals where gamma is 0, as in the nets that were published.
    """

    fork = "MPELU"
    param_field = "mpelu_param"

    def param_shapes(self, bottom_shapes):
        shapes = super().param_shapes(bottom_shapes)
        return [*shapes, (shapes[0][0], filled(self.param, "gamma_filler", 0))]
