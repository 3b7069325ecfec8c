"""Pooling of channels-last arrays: MAX without a mask, and AVE."""

from __future__ import annotations

import math

from minicaffe.core.registry import register
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.layers.pooling import Pooling
from minicaffe.layers.tensor.base import TensorLayer

_THREADS = 64  #: of a block
_MOST_ELEMENTS = 255  #: of a window of MAX: a byte has the place of each maximum


@register("Pooling", engine="TENSOR")
class TensorPooling(TensorLayer, Pooling):
    __doc__ = Pooling.__doc__

    choices: DeviceBuffer | None = None  # of MAX: the place in its window of each number of the top

    def expressible(self, bottom, top):
        window = self.window(bottom[0].shape)
        small = math.prod(window.kernel) <= _MOST_ELEMENTS
        if not window.is_planar:
            return False
        return self.pool == "AVE" or (self.pool == "MAX" and len(top) == 1 and small)

    def geometry(self, bottom, top) -> tuple[int, ...]:
        """Height and width of bottom, top, kernel, stride and pad, as the kernels take them."""
        kernel, stride, pad, _ = self.window(bottom.shape)
        return (*bottom.shape[2:], *top.shape[2:], *kernel, *stride, *pad)

    def launch(self, name, result, bottom, top, *arrays) -> None:
        """Launch a kernel whose result is of the shape of a blob."""
        layout = self.layout(result)
        segments = -(-result.shape[3] * layout.vectors // _THREADS)
        arguments = (segments, layout.vectors, *self.geometry(bottom, top), *arrays)
        kernel = layout.kernel(f"{self.pool.lower()}_{name}", "channels_last_pooling")
        kernel.launch((layout.samples * result.shape[2] * segments, 1), _THREADS, *arguments)

    def forward_tensor(self, bottom, top):
        x, y, n = self.data(bottom[0]), self.mutable_data(top[0]), 8 * self.layout(top[0]).size
        if self.pool == "MAX" and (self.choices is None or self.choices.nbytes < n):
            self.choices = DeviceBuffer(n)
        self.launch("forward", top[0], bottom[0], top[0], x, y, *self.choice())

    def backward_tensor(self, top, propagate_down, bottom):
        if propagate_down[0]:
            dy, dx = self.diff(top[0]), self.mutable_diff(bottom[0])
            self.launch("backward", bottom[0], bottom[0], top[0], dy, *self.choice(), dx)

    def choice(self) -> tuple:
        """The argument of the kernels of MAX beside those of AVE."""
        return (self.choices,) if self.pool == "MAX" else ()
