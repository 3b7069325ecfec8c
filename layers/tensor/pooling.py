"""Pooling of channels-last arrays: MAX without a mask, and AVE."""

from __future__ import annotations

import math

from minicaffe.core.registry import register
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.layers.pooling import Pooling
from minicaffe.layers.tensor.base import TensorLayer

_STEM = "channels_last_pooling"
_MOST_ELEMENTS = 255  #: of a window of MAX: a byte stands for each maximum


@register("Pooling", engine="TENSOR")
class TensorPooling(TensorLayer, Pooling):
    __doc__ = Pooling.__doc__

    choices: DeviceBuffer | None = None  # of MAX: the place in its window of each number of the top

    def expressible(self, bottom, top):
        small = math.prod(self.window(bottom[0].shape).kernel) <= _MOST_ELEMENTS
        return self.pool == "AVE" or (self.pool == "MAX" and len(top) == 1 and small)

    def geometry(self, bottom, top) -> tuple[int, ...]:
        """Height and width of bottom, top, kernel, stride and pad, as the kernels take them."""
        kernel, stride, pad, _ = self.window(bottom.shape)
        return (*bottom.shape[2:], *top.shape[2:], *kernel, *stride, *pad)

    def forward_tensor(self, bottom, top):
        layout, x, y = self.layout(top[0]), self.data(bottom[0]), self.mutable_data(top[0])
        arguments = (layout.vectors, *self.geometry(bottom[0], top[0]), x, y)
        grid = (layout.samples * top[0].shape[2], 1)
        if self.pool == "AVE":
            layout.kernel("ave_forward", _STEM).launch(grid, 256, *arguments)
            return
        if self.choices is None or self.choices.nbytes < 8 * layout.size:
            self.choices = DeviceBuffer(8 * layout.size)
        layout.kernel("max_forward", _STEM).launch(grid, 256, *arguments, self.choices)

    def backward_tensor(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        layout, dy, dx = self.layout(bottom[0]), self.diff(top[0]), self.mutable_diff(bottom[0])
        arguments = (layout.vectors, *self.geometry(bottom[0], top[0]), dy)
        grid = (layout.samples * bottom[0].shape[2], 1)
        if self.pool == "AVE":
            layout.kernel("ave_backward", _STEM).launch(grid, 256, *arguments, dx)
        else:
            layout.kernel("max_backward", _STEM).launch(grid, 256, *arguments, self.choices, dx)
