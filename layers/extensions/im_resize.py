"""ImResize: bicubic interpolation to another size, with the mean over pictures of several scales."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.resampling import Resampling


@register("ImResize")
class ImResize(Layer):
    """y[0, c] = the mean over n of the centre of x[n, c], resized to (H, W) by cubic interpolation (Catmull-Rom)

    Picture n is without its outer floor(w // 2 * (1 - start_scale + n * scale_gap)) columns on both sides, and rows
    alike: the pictures are one scene at several scales, each in the middle.  Pixels have their centres at halves.

    bottom: x (N, C, h, w); top: (1, C, H, W)

    imresize_param: factor f: H = floor(h f), W = floor(w f); or, where it is 0, target_spatial_height 368 and
        target_spatial_width 368; start_scale 1; scale_gap 0.1.
    Source: Cao, Simon, Wei and Sheikh, Realtime multi-person 2D pose estimation, 2017.
    """

    fork = "OpenPose"
    param_field = "imresize_param"
    exact_num_bottom = exact_num_top = 1
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.param = param = self.layer_param.imresize_param
        if not all(map(math.isfinite, (param.factor, param.start_scale, param.scale_gap))) or param.factor < 0:
            raise self.error("factor, start_scale and scale_gap must be finite, factor at least 0")
        self.part = Blob((), self.dtype)  # on the device: one picture, resized

    def top_shapes(self, bottom_shapes):
        (shape,) = bottom_shapes
        if len(shape) != 4 or not shape[0]:
            raise self.error(f"bottom 0 must be (N, C, h, w) with a picture, got {shape}")
        size = [math.floor(length * self.param.factor) for length in shape[2:]]
        if not self.param.factor:
            size = [self.param.target_spatial_height, self.param.target_spatial_width]
        if min(size) < 1:
            raise self.error(f"the size must be at least 1 x 1, got {size[0]} x {size[1]}")
        return [(1, shape[1], *size)]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        samples, _, *old = bottom[0].shape
        self.part.reshape(top[0].shape)
        self.maps = [
            Resampling((self._weights(n, m, k) for m, k in zip(old, top[0].shape[2:])), self.dtype)
            for n in range(samples)
        ]

    def _weights(self, n: int, size: int, new_size: int) -> np.ndarray:
        """Return the weight (new_size, size) of each old place of picture n in each new one."""
        pad = math.floor(size // 2 * (1 - self.param.start_scale + n * self.param.scale_gap) + 1e-6)
        inner = size - 2 * pad
        if pad < 0 or inner < 1:
            raise self.error(f"start_scale and scale_gap leave {inner} of {size} rows or columns of picture {n}")
        at = (np.arange(new_size) + 0.5) * (inner / new_size) - 0.5
        first = np.maximum((at + 1e-5).astype(int), 0)
        t, weights = at - first, np.zeros((new_size, size))
        cubic = (
            (-0.5 * t + t**2 - 0.5 * t**3, np.maximum(first - 1, 0)),
            (1 - 2.5 * t**2 + 1.5 * t**3, first),
            (0.5 * t + 2 * t**2 - 1.5 * t**3, np.minimum(first + 1, inner - 1)),
            (-0.5 * t**2 + 0.5 * t**3, np.minimum(first + 2, inner - 1)),
        )
        for values, place in cubic:
            np.add.at(weights, (np.arange(new_size), pad + place), values)
        return weights

    def forward_cpu(self, bottom, top):
        x, y, part = bottom[0].read_data(), top[0].data, np.empty(top[0].shape[1:], self.dtype)
        y[...] = 0
        for each, resized in zip(x, self.maps):
            resized.forward(each, part)
            y[0] += part / self.dtype.type(len(x))

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            dy = top[0].read_diff()[0] / self.dtype.type(len(self.maps))
            for each, resized in zip(bottom[0].diff, self.maps):
                resized.backward(dy, each)

    def forward_gpu(self, bottom, top):
        x, y, part = bottom[0].gpu_data(), top[0].mutable_gpu_data(), self.part.mutable_gpu_data()
        channels, step, share = bottom[0].shape[1], self._bytes(bottom), 1 / len(self.maps)
        for n, resized in enumerate(self.maps):
            resized.forward_gpu(channels, x + n * step, part)
            ops.axpby(top[0].count, share, part, 1 if n else 0, y, self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            dx, part = bottom[0].mutable_gpu_diff(), self.part.mutable_gpu_data()
            ops.scale(top[0].count, 1 / len(self.maps), top[0].gpu_diff(), part, self.dtype)
            for n, resized in enumerate(self.maps):
                resized.backward_gpu(bottom[0].shape[1], part, dx + n * self._bytes(bottom))

    def _bytes(self, bottom) -> int:
        """Bytes of a sample of the bottom."""
        return bottom[0].count_range(1) * self.dtype.itemsize
