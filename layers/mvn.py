"""MVN: normalises each sample to mean 0 and variance 1."""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


@register("MVN")
class MVN(Layer):
    """y = (x - mean) / (sqrt(mean of (x - mean)^2) + eps), with means over the places of each channel of each sample

    bottom, top: (N, C, ...); in place if wanted

    mvn_param: normalize_variance true (false: y = x - mean), across_channels false (true: statistics of whole
    samples), eps 1e-9.
    """

    family = "normalization"
    keeps_coordinates = True
    exact_num_bottom = 1
    exact_num_top = 1
    in_place = True
    backward_reads = ("top",)

    def setup(self, bottom, top):
        param = self.layer_param.mvn_param
        self.across, self.with_variance, self.eps = param.across_channels, param.normalize_variance, param.eps
        self.deviation = Blob((), self.dtype)

    def top_shapes(self, bottom_shapes):
        if len(bottom_shapes[0]) < 2:
            raise self.error(f"bottom 0 must be (N, C, ...), got {bottom_shapes[0]}")
        if 0 in bottom_shapes[0][1:]:
            raise self.error(f"there is nothing to take the mean of in bottom 0 of shape {bottom_shapes[0]}")
        return bottom_shapes

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        axis = 1 if self.across else 2
        self.rows, self.length = bottom[0].count_range(0, axis), bottom[0].count_range(axis)
        self.deviation.reshape(self.rows, 1)

    def forward_cpu(self, bottom, top):
        x, y = self._flat(bottom[0].read_data()), self._flat(top[0].data)
        y[...] = x - x.mean(1, keepdims=True)
        if self.with_variance:
            self.deviation.data = np.sqrt((y * y).mean(1, keepdims=True)) + self.eps
            y /= self.deviation.read_data()

    def backward_cpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        y, dy, dx = (self._flat(a) for a in (top[0].read_data(), top[0].read_diff(), bottom[0].diff))
        if self.with_variance:
            dx[...] = dy - dy.mean(1, keepdims=True) - (dy * y).mean(1, keepdims=True) * y
            dx /= self.deviation.read_data()
        else:
            dx[...] = dy - dy.mean(1, keepdims=True)

    def forward_gpu(self, bottom, top):
        x, y, deviation = bottom[0].gpu_data(), top[0].mutable_gpu_data(), self.deviation.mutable_gpu_data()
        arguments = (self.length, int(self.with_variance), self.eps, x, y, deviation)
        self.kernel("forward").launch((self.rows, 1), 256, *arguments)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            y, dy, dx = top[0].gpu_data(), top[0].gpu_diff(), bottom[0].mutable_gpu_diff()
            arguments = (self.length, int(self.with_variance), y, dy, self.deviation.gpu_data(), dx)
            self.kernel("backward").launch((self.rows, 1), 256, *arguments)

    def _flat(self, values):
        """Return an array of the bottom's shape with one row for each mean."""
        return values.reshape(self.rows, self.length)
