"""MaskResize: bilinear interpolation of masks to another size."""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.resampling import Resampling


@register("MaskResize")
class MaskResize(Layer):
    """y[n, c, i, j] = x[n, c] at row i h / H and column j w / W, by linear interpolation

    bottom: x (N, C, h, w); top: (N, C, H, W).  Behind the last row or column the value is that of the last one, and 0
    more than half a place behind it.

    mask_resize_param: output_height H, output_width W.
    Source: Dai, He and Sun, Instance-aware semantic segmentation via multi-task network cascades, 2016.
    """

    fork = "MNC"
    exact_num_bottom = exact_num_top = 1
    in_place = False
    backward_reads = ()

    @staticmethod
    def describe(layer_param):
        param = layer_param.mask_resize_param
        return f"{param.output_height}×{param.output_width}"

    def setup(self, bottom, top):
        param = self.layer_param.mask_resize_param
        self.size = (param.output_height, param.output_width)
        if min(self.size) < 1:
            raise self.error(f"output_height and output_width must be at least 1, got {self.size}")

    def top_shapes(self, bottom_shapes):
        if len(bottom_shapes[0]) != 4 or 0 in bottom_shapes[0][2:]:
            raise self.error(f"bottom 0 must be (N, C, h, w), got {bottom_shapes[0]}")
        return [(*bottom_shapes[0][:2], *self.size)]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.map = Resampling((_weights(n, m) for n, m in zip(bottom[0].shape[2:], self.size)), self.dtype)

    def forward_cpu(self, bottom, top):
        self.map.forward(bottom[0].read_data(), top[0].data)

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            self.map.backward(top[0].read_diff(), bottom[0].diff)

    def forward_gpu(self, bottom, top):
        self.map.forward_gpu(bottom[0].count_range(0, 2), bottom[0].gpu_data(), top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            self.map.backward_gpu(bottom[0].count_range(0, 2), top[0].gpu_diff(), bottom[0].mutable_gpu_diff())


def _weights(size: int, new_size: int) -> np.ndarray:
    """Return the weight (new_size, size) of each old place in each new one."""
    at = np.arange(new_size)[:, None] * (size / new_size)
    weights = np.maximum(0, 1 - np.abs(np.minimum(at, size - 1) - np.arange(size)))
    return np.where(at <= size - 0.5, weights, 0)
