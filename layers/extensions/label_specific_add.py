"""LabelSpecificAdd: adds a margin to the score of each sample's class, as of AM-Softmax."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.label_margin import LabelMargin
from minicaffe.proto import TRAIN
from minicaffe.saved import field


@register("LabelSpecificAdd")
class LabelSpecificAdd(LabelMargin):
    """In TRAIN y = x, but for the label of a sample y = x + bias where x > -bias; in TEST y = x.  bias is negative.

    Bottoms: scores (N, ...), labels, N numbers (below 0: the sample stays as it is).  Tops: y, of the shape of the
    scores, in place if wanted; optionally bias, (1).  The gradient is dy.
    label_specific_add_param: bias (0); or, where bias_base is given, a bias that changes with the passes in TRAIN:
    bias_base + (1 + bias_gamma iteration)^bias_power - 1, at least bias_min (0), at most bias_max (0), with bias_gamma
    (0), bias_power (1), iteration (0: that of the first pass).  transform_test has no effect.
    Source: Wang et al., AM-Softmax, 2018.
    """

    fork = "AM-Softmax"
    exact_num_top = None
    min_top, max_top = 1, 2
    constants = ("bias",)
    cuda_margin = "y = c > -bias ? c + bias : c; slope = 1"

    @property
    def capturable(self):  # type: ignore[override]  # nothing sets it
        return not self.anneals  # the bias is an argument of the kernel

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self.param = self.layer_param.label_specific_add_param
        self.applies = self.phase == TRAIN
        self.anneals = self.applies and self.param.HasField("bias_base")
        self.bias, self.iteration = self.param.bias, self.param.iteration

    def numpy_margin(self, c):
        return np.where(c > -self.bias, c + c.dtype.type(self.bias), c), np.ones_like(c)

    def forward_cpu(self, bottom, top):
        self._next_bias()
        super().forward_cpu(bottom, top)
        for blob in top[1:]:
            blob.data[...] = self.bias

    def forward_gpu(self, bottom, top):
        self._next_bias()
        super().forward_gpu(bottom, top)
        for blob in top[1:]:
            ops.fill(1, self.bias, blob.mutable_gpu_data(), self.dtype)

    def _next_bias(self):
        if self.anneals:
            param = self.param
            grown = param.bias_base + self._power(1 + param.bias_gamma * self.iteration, param.bias_power) - 1
            self.bias = min(max(grown, param.bias_min), param.bias_max)
            self.iteration += 1

    def _power(self, base: float, exponent: float) -> float:
        if base < 0 and exponent % 1 or not base and exponent < 0:
            raise self.error(f"1 + bias_gamma iteration is {base:g}, which has no power bias_power, {exponent:g}")
        return base**exponent

    def state(self):
        return {**super().state(), "iteration": self.iteration} if self.anneals else super().state()

    def load_state(self, state):
        super().load_state(state)
        self.load_common_state(state)

    def load_common_state(self, state):
        if self.anneals:
            self.iteration = int(field(state, "iteration"))
