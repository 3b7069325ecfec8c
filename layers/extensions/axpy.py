"""Axpy: scales each channel and adds a blob."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops


@register("Axpy")
class Axpy(Layer):
    """z = a * x + y, with a broadcast over the places of a channel.

    Bottoms: a (N, C) or (N, C, 1, 1), x (N, C, ...), y of the shape of x.  Top: z, of the shape of x.
    Source: Hu, Shen and Sun, Squeeze-and-Excitation Networks, 2017.
    """

    fork = "SENet"
    family = "arrangement"
    exact_num_bottom = 3
    exact_num_top = 1
    in_place = False
    backward_reads = ("bottom",)

    def top_shapes(self, bottom_shapes):
        a, x, y = bottom_shapes
        if x != y:
            raise self.error(f"bottoms 1 and 2 must have equal shapes, got {x} and {y}")
        if len(x) < 2 or a[:2] != x[:2] or np.prod(a[2:]) != 1:
            raise self.error(f"bottom 0 must be {x[:2]}, one factor for each channel of bottom 1 {x}, got {a}")
        return [x]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.channels, self.inner = bottom[0].count, bottom[1].count_range(2)

    def _rows(self, array):
        """Return the array with a row for each channel: (N * C, places), or (N * C, 1) for the factors."""
        return array.reshape(self.channels, array.size // max(self.channels, 1))

    def forward_cpu(self, bottom, top):
        a, x, y = (self._rows(blob.read_data()) for blob in bottom)
        z = a * x
        np.add(z, y, out=self._rows(top[0].data))

    def backward_cpu(self, top, propagate_down, bottom):
        (a, x, _), dz = (self._rows(blob.read_data()) for blob in bottom), self._rows(top[0].read_diff())
        if propagate_down[0]:
            (dz * x).sum(axis=1, out=bottom[0].diff.reshape(-1))
        if propagate_down[1]:
            np.multiply(a, dz, out=self._rows(bottom[1].diff))
        if propagate_down[2] and bottom[2] is not top[0]:
            self._rows(bottom[2].diff)[...] = dz

    def forward_gpu(self, bottom, top):
        a, x, y = (blob.gpu_data() for blob in bottom)
        self.kernel("forward")(top[0].count, self.inner, a, x, y, top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        (a, x, _), dz, n = (blob.gpu_data() for blob in bottom), top[0].gpu_diff(), top[0].count
        if propagate_down[0] and self.channels:
            threads = 256 if self.inner > 128 else 32
            self.kernel("factor_gradient").launch(
                (self.channels, 1), threads, self.inner, x, dz, bottom[0].mutable_gpu_diff()
            )
        if propagate_down[1]:
            self.kernel("gradient")(n, self.inner, a, dz, bottom[1].mutable_gpu_diff())
        if propagate_down[2]:
            ops.copy(n, dz, bottom[2].mutable_gpu_diff(), self.dtype)
