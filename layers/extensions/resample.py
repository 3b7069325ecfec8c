"""Resample: pictures at another height and width, by nearest, linear or cubic interpolation."""

from __future__ import annotations

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.resampling import Resampling
from minicaffe.layers.shared.resized import Resized
from minicaffe.proto.caffe_pb2 import ResampleParameter


@register("Resample")
class Resample(Resized):
    """y = the mean of the places of x around the position of y, weighted by their distance.

    The outer edges of x and y coincide: with f = H / H', row i of y is at row (i + 1/2) f - 1/2 of x.

    bottoms: x, (N, C, H, W), which gets a gradient; optionally a blob whose height and width are taken.
    top: (N, C, H', W')

    resample_param: height, width (without bottom 1); type: LINEAR (weights 1 - |d| of distances d), CUBIC (those of
        Keys, a = -1/2), NEAREST; antialias (true): where x is larger, distances are divided by f.
    Source: Ilg et al., FlowNet 2.0, 2017.
    """

    size_fields = "height", "width"

    def setup(self, bottom, top):
        self.param = self.layer_param.resample_param
        if self.param.type == ResampleParameter.AREA:
            raise self.error("type must be NEAREST, LINEAR or CUBIC, got AREA")

    def field_size(self):
        return self.param.height, self.param.width

    def resampling(self, size, new_size):
        return Resampling([self._weights(n, m) for n, m in zip(size, new_size)], self.dtype)

    def _weights(self, size: int, new_size: int) -> np.ndarray:
        factor = size / new_size
        at = (np.arange(new_size)[:, None] + 0.5) * factor - 0.5
        places = np.arange(size)
        if self.param.type == ResampleParameter.NEAREST:
            return (places == np.clip(np.floor(at + 0.5), 0, size - 1)).astype(float)
        shrink = max(1.0, factor) if self.param.antialias else 1.0
        weights = (_cubic if self.param.type == ResampleParameter.CUBIC else _linear)(np.abs(at - places) / shrink)
        return weights / weights.sum(1, keepdims=True)

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            self.weights.backward(top[0].read_diff(), bottom[0].diff)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            planes = bottom[0].count_range(0, 2)
            self.weights.backward_gpu(planes, top[0].gpu_diff(), bottom[0].mutable_gpu_diff())


def _linear(distance: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - distance)


def _cubic(distance: np.ndarray) -> np.ndarray:
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))
