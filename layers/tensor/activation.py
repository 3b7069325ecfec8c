"""ReLU on channels-last arrays."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.relu import ReLU
from minicaffe.layers.tensor.base import TensorLayer


@register("ReLU", engine="TENSOR")
class TensorReLU(TensorLayer, ReLU):
    __doc__ = ReLU.__doc__

    def forward_tensor(self, bottom, top):
        layout, x = self.layout(bottom[0]), self.data(bottom[0])
        layout.kernel("rectify")(layout.size, self.negative_slope, x, self.mutable_data(top[0]))

    def backward_tensor(self, top, propagate_down, bottom):
        if propagate_down[0]:
            layout, x, dy = self.layout(bottom[0]), self.data(bottom[0]), self.diff(top[0])
            dx = self.mutable_diff(bottom[0])
            layout.kernel("add_gradients")(layout.size, self.negative_slope, x, dy, 0, dx)
