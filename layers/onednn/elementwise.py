"""ReLU and other elementwise layers by oneDNN's eltwise primitive, in the layout of the bottom."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.absval import AbsVal
from minicaffe.layers.bnll import BNLL
from minicaffe.layers.elu import ELU
from minicaffe.layers.extensions.relu6 import ReLU6
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.layers.power import Power
from minicaffe.layers.relu import ReLU
from minicaffe.layers.sigmoid import Sigmoid
from minicaffe.layers.swish import Swish
from minicaffe.layers.tanh import TanH
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Alg, Arg


class OneDNNElementwise(OneDNNLayer):
    """y = f(x), dx = f'(x) dy.  A subclass names the algorithm and, if there is one, that which computes f' from y.

    `gradient_from_x`: the gradient is computed from x, as in Caffe, since a later layer in place may have changed y;
        only a layer that itself works in place computes it from y.
    `gradient_from_both`: Caffe's formula has both x and y, the primitive one of them; if either was written to after
        the forward pass, the numpy code runs instead.
    """

    bf16_use = "passes"
    alg: int
    alg_from_dst: int | None = None
    gradient_from_x = gradient_from_both = False

    def coefficients(self) -> tuple[float, float]:
        """alpha and beta of the algorithm."""
        return 0.0, 0.0

    def from_y(self, bottom, top) -> bool:
        """Whether backward reads the top instead of the bottom."""
        return self.alg_from_dst is not None and (bottom[0] is top[0] or not self.gradient_from_x)

    def make(self, desc, from_y):
        """Forward and backward primitive for one layout."""
        alpha, beta = self.coefficients()
        forward = primitives.eltwise(self.alg, desc, desc, alpha, beta)
        if not from_y:
            return forward, primitives.eltwise_backward(self.alg, desc, desc, desc, alpha, beta, forward)
        hint = primitives.eltwise(self.alg_from_dst, desc, desc, alpha, beta)
        return forward, primitives.eltwise_backward(self.alg_from_dst, desc, desc, desc, alpha, beta, hint)

    def forward_onednn(self, bottom, top):
        x = self.data(bottom[0])
        forward, _ = self.plan(self.make, x.desc, self.from_y(bottom, top))
        self.execute(forward, Arg.SRC, x, Arg.DST, layouts.mutable_data(top[0], x.desc))
        if self.gradient_from_both:
            self.versions = _versions(bottom, top)

    def backward_onednn(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        if self.gradient_from_both and bottom[0] is not top[0] and self.versions != _versions(bottom, top):
            return super(OneDNNLayer, self).backward_cpu(top, propagate_down, bottom)
        from_y = self.from_y(bottom, top)
        known = self.data(top[0] if from_y else bottom[0])
        _, backward = self.plan(self.make, known.desc, from_y)
        dy = layouts.diff(top[0], known.desc)
        dx = layouts.mutable_diff(bottom[0], known.desc)
        arg = Arg.DST if from_y else Arg.SRC
        self.execute(backward, arg, known, Arg.DIFF_DST, dy, Arg.DIFF_SRC, dx)


def _versions(bottom, top) -> list[object]:
    return [blob.data_memory.version for blob in (*bottom, *top)]


@register("ReLU", engine="ONEDNN")
class OneDNNReLU(OneDNNElementwise, ReLU):
    __doc__ = ReLU.__doc__
    alg, alg_from_dst = Alg.RELU, Alg.RELU_FROM_DST
    gradient_from_x = True

    def coefficients(self):
        return self.negative_slope, 0.0

    def expressible(self, bottom, top):
        return self.negative_slope >= 0


@register("ELU", engine="ONEDNN")
class OneDNNELU(OneDNNElementwise, ELU):
    __doc__ = ELU.__doc__
    alg, alg_from_dst = Alg.ELU, Alg.ELU_FROM_DST
    gradient_from_x = gradient_from_both = True

    def coefficients(self):
        return self.alpha, 0.0

    def expressible(self, bottom, top):
        return self.alpha >= 0


@register("ReLU6", engine="ONEDNN")
class OneDNNReLU6(OneDNNElementwise, ReLU6):
    __doc__ = ReLU6.__doc__
    alg, alg_from_dst = Alg.CLIP_V2, Alg.CLIP_V2_FROM_DST
    gradient_from_x = True

    def coefficients(self):
        return 0.0, 6.0


@register("Sigmoid", engine="ONEDNN")
class OneDNNSigmoid(OneDNNElementwise, Sigmoid):
    __doc__ = Sigmoid.__doc__
    alg, alg_from_dst = Alg.LOGISTIC, Alg.LOGISTIC_FROM_DST


@register("TanH", engine="ONEDNN")
class OneDNNTanH(OneDNNElementwise, TanH):
    __doc__ = TanH.__doc__
    alg, alg_from_dst = Alg.TANH, Alg.TANH_FROM_DST


@register("AbsVal", engine="ONEDNN")
class OneDNNAbsVal(OneDNNElementwise, AbsVal):
    __doc__ = AbsVal.__doc__
    alg = Alg.ABS


@register("BNLL", engine="ONEDNN")
class OneDNNBNLL(OneDNNElementwise, BNLL):
    __doc__ = BNLL.__doc__
    alg = Alg.SOFT_RELU

    def coefficients(self):
        return 1.0, 0.0


@register("Swish", engine="ONEDNN")
class OneDNNSwish(OneDNNElementwise, Swish):
    __doc__ = Swish.__doc__
    alg = Alg.SWISH
    gradient_from_both = True

    def coefficients(self):
        return self.beta, 0.0


@register("Power", engine="ONEDNN")
class OneDNNPower(OneDNNElementwise, Power):
    __doc__ = Power.__doc__
    alg = Alg.LINEAR

    def coefficients(self):
        return self.scale, self.shift

    def expressible(self, bottom, top):
        return self.power == 1 and self.scale != 0 and not self.squares
