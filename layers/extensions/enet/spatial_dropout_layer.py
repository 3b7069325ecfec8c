"""spatial_dropout.SpatialDropoutLayer: drops whole maps while training."""

from __future__ import annotations

import ast

import numpy as np

from minicaffe.core.python_layers import replaces
from minicaffe.layers.shared.python_part import PythonPart


@replaces("spatial_dropout", "SpatialDropoutLayer")
class SpatialDropoutLayer(PythonPart):
    """y = x * mask / (1 - p), each mask 0 with probability p, else 1, for all numbers of a channel of a sample.

    bottom, top: (N, C, H, W)

    param_str: a dict with the keys 'p', in (0, 1), and 'phase': 'TRAIN'; with another phase, as in ENet's deploy nets,
    each mask is 1: y = x / (1 - p), which ENet's weights are for.  It runs on the CPU, in GPU mode too.
    """

    def setup(self, bottom, top):
        self.check_blobs(bottom, top, 1, (1,))
        try:
            param = ast.literal_eval(self.param_str)
            self.drops, ratio = param["phase"] == "TRAIN", float(param["p"])
        except (ValueError, SyntaxError, KeyError, TypeError):
            raise self.error(f"param_str must be {{'phase': 'TRAIN', 'p': '0.1'}}, got '{self.param_str}'") from None
        if not 0 < ratio < 1:
            raise self.error(f"'p' of param_str must be above 0 and below 1, got {ratio:g}")
        self.threshold, self.scale = int(ratio * 0xFFFFFFFF), 1 / (1 - ratio)

    def reshape(self, bottom, top):
        if len(bottom[0].shape) < 2:
            raise self.error(f"bottom 0 must be (N, C, ...), got {bottom[0].shape}")
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        shape = bottom[0].shape
        self.factors = np.full((*shape[:2], *(1,) * (len(shape) - 2)), self.scale)
        if self.drops:
            kept = self.rng.uniform_u32(self.factors.size) > self.threshold
            self.factors *= kept.reshape(self.factors.shape)
        top[0].data[...] = bottom[0].data * self.factors

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff[...] = top[0].diff * self.factors
