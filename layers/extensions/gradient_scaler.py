"""GradientScaler: reverses the gradient, for adaptation to another domain."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.passes import CountsPasses
from minicaffe.proto import TRAIN


@register("GradientScaler")
class GradientScaler(CountsPasses):
    """y = x; the gradient is dx = -c dy, with c growing from lower_bound towards upper_bound:

        p = min(1, passes / max_iter),  c = lower_bound + (upper_bound - lower_bound) (2 / (1 + exp(-alpha p)) - 1)

    bottom, top: of any shape; in place if wanted.  passes: the forward passes in TRAIN before this one.

    gradient_scaler_param: lower_bound 0, upper_bound 1, alpha 10, max_iter 1.
    Source: Ganin and Lempitsky, Unsupervised Domain Adaptation by Backpropagation, 2015.
    """

    fork = "ddtm"
    family = "arrangement"
    exact_num_bottom = 1
    exact_num_top = 1
    in_place = True
    backward_reads = ()
    capturable = False  # the factor is computed on the host

    def setup(self, bottom, top):
        param = self.layer_param.gradient_scaler_param
        if not (param.lower_bound <= param.upper_bound and param.alpha >= 0 and param.max_iter >= 1):
            raise self.error(
                "gradient_scaler_param needs lower_bound <= upper_bound, alpha >= 0 and max_iter >= 1, got "
                f"{param.lower_bound:g}, {param.upper_bound:g}, {param.alpha:g} and {param.max_iter:g}"
            )
        self.c = self.factor()

    def top_shapes(self, bottom_shapes):
        return bottom_shapes

    def factor(self) -> float:
        """Return c of the present pass."""
        param = self.layer_param.gradient_scaler_param
        progress = min(1.0, self.passes / param.max_iter)
        height = param.upper_bound - param.lower_bound
        return param.lower_bound + height * (2 / (1 + math.exp(-param.alpha * progress)) - 1)

    def _count(self) -> None:
        self.c = self.factor()
        self.passes += self.phase == TRAIN

    def forward_cpu(self, bottom, top):
        self._count()
        if top[0] is not bottom[0]:
            top[0].data = bottom[0].read_data()

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            np.multiply(top[0].read_diff(), self.dtype.type(-self.c), out=bottom[0].diff)

    def forward_gpu(self, bottom, top):
        self._count()
        if top[0] is not bottom[0]:
            ops.copy(top[0].count, bottom[0].gpu_data(), top[0].mutable_gpu_data(), self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            ops.scale(top[0].count, -self.c, top[0].gpu_diff(), bottom[0].mutable_gpu_diff(), self.dtype)
