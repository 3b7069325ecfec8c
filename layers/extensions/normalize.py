"""Normalize: scales vectors to length 1; in SSD's form times a learned scale, in NormFace's without."""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.views import by_channel
from minicaffe.proto import caffe_pb2

_SQUARES, _ROOT, _ABSOLUTE = range(3)  # of the kernel `products`: sums of a b, their roots, sums of |a|
_EPS = 1e-6  # NormFace's


@register("Normalize")
class Normalize(Layer):
    """y = x / |x|, where |x| = sqrt(sum of x^2 + eps) over the channels of a place; with norm_param times a scale.

    bottom, top: (N, C, ...), in place if wanted; optional top 1: |x|, (N, 1, ...), not with norm_param.

    Two forks have a layer of this name; it is SSD's if norm_param is given, even if empty.
    SSD (Liu et al., 2016; ParseNet, Liu, Rabinovich and Berg, 2015): norm_param with across_spatial (true: |x| over all
    places of a sample, false: at each place), eps (1e-10), channel_shared (true), scale_filler (constant 1).
    blobs: the scale, one number () with channel_shared, else (C).
    NormFace (Wang et al., 2017): normalize_param with normalize_type ("L2"; "L1": |x| = sum of |x_c| +
    eps), fix_gradient (false; true: the gradient is not divided by |x|), bp_norm (false; true: top 1 has a gradient).
    eps is 1e-6; there are no blobs.
    """

    fork = "SSD; NormFace"
    family = "normalization"
    more_params: tuple[str, ...] = ("norm_param", "normalize_param")
    keeps_coordinates = True
    exact_num_bottom = 1
    min_top, max_top = 1, 2
    in_place = True
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        param = self.layer_param.norm_param
        self.scaled = self.layer_param.HasField("norm_param")
        self.across_spatial = self.scaled and param.across_spatial
        self.shared, self.eps = param.channel_shared, param.eps if self.scaled else _EPS
        self._read_normalize_param(len(top) > 1)
        if bottom[0].num_axes < 2:
            raise self.error(f"bottom 0 must be (N, C, ...), got {bottom[0].shape}")
        self.channels = bottom[0].shape[1]
        self.length = Blob((), self.dtype)

    def _read_normalize_param(self, norm_is_top: bool) -> None:
        param = self.layer_param.normalize_param
        if self.scaled and (norm_is_top or self.layer_param.HasField("normalize_param")):
            raise self.error("norm_param (SSD) allows neither normalize_param nor a second top (NormFace)")
        if param.normalize_type not in ("L1", "L2"):
            raise self.error(f'normalize_type must be "L1" or "L2", got "{param.normalize_type}"')
        self.absolute, self.fix_gradient = param.normalize_type == "L1", param.fix_gradient
        self.bp_norm = param.bp_norm and norm_is_top

    def param_shapes(self, bottom_shapes):
        if not self.scaled:
            return []
        param = self.layer_param.norm_param
        one = caffe_pb2.FillerParameter(type="constant", value=1)
        filler = param.scale_filler if param.HasField("scale_filler") else one
        return [(() if self.shared else (self.channels,), filler)]

    def top_shapes(self, bottom_shapes):
        shape = bottom_shapes[0]
        if len(shape) < 2 or shape[1] != self.channels:
            raise self.error(f"bottom 0 must be (N, C, ...) with {self.channels} channels, got {shape}")
        return [shape, (shape[0], 1, *shape[2:])]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.places = bottom[0].count_range(2)
        self.length.reshape(bottom[0].shape[0], 1, 1 if self.across_spatial else self.places)

    # -- numpy -----------------------------------------------------------------------------------------------------

    def forward_cpu(self, bottom, top):
        x = by_channel(bottom[0].read_data())
        if self.absolute:
            self.length.data = np.abs(x).sum(1, keepdims=True) + self.eps
        else:
            self.length.data = np.sqrt((x * x).sum(self._axes, keepdims=True) + self.eps)
        by_channel(top[0].data)[...] = x / self.length.read_data() * self._scale()
        for norm in top[1:]:
            by_channel(norm.data)[...] = self.length.read_data()

    def backward_cpu(self, top, propagate_down, bottom):
        x, length, dy = by_channel(bottom[0].read_data()), self.length.read_data(), by_channel(top[0].read_diff())
        unit = x / length
        if self.scaled and self.param_propagate_down[0]:
            self.blobs[0].diff += (dy * unit).sum() if self.shared else (dy * unit).sum((0, 2))
        if propagate_down[0]:
            slope = np.sign(x) if self.absolute else unit  # the derivative of |x|
            dy = dy * self._scale()
            dx = dy - slope * (dy * unit).sum(self._axes, keepdims=True)
            if not self.fix_gradient:
                dx /= length
            if self.bp_norm:
                dx += slope * by_channel(top[1].read_diff())
            by_channel(bottom[0].diff)[...] = dx

    @property
    def _axes(self) -> tuple[int, ...]:
        return (1, 2) if self.across_spatial else (1,)

    def _scale(self):
        if not self.scaled:
            return 1
        return self.blobs[0].read_data() if self.shared else self.blobs[0].read_data()[:, None]

    # -- CUDA ------------------------------------------------------------------------------------------------------

    def forward_gpu(self, bottom, top):
        x, length, y = bottom[0].gpu_data(), self.length.mutable_gpu_data(), top[0].mutable_gpu_data()
        self._measure(x, x, self.eps, _ABSOLUTE if self.absolute else _ROOT, length)
        self.kernel("forward")(bottom[0].count, *self._geometry(), x, length, self._device_scale(), y)
        for norm in top[1:]:
            ops.copy(norm.count, length, norm.mutable_gpu_data(), self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        x, dy, length, scale = bottom[0].gpu_data(), top[0].gpu_diff(), self.length.gpu_data(), self._device_scale()
        if self.scaled and self.param_propagate_down[0]:
            count = bottom[0].shape[0] * self.places
            arguments = (count, *self._geometry(), x, dy, length, self.blobs[0].mutable_gpu_diff())
            self.kernel("scale_gradient").launch((1 if self.shared else self.channels, 1), 256, *arguments)
        if propagate_down[0]:
            along, dx = self.length.mutable_gpu_diff(), bottom[0].mutable_gpu_diff()
            self.kernel("weighted")(bottom[0].count, *self._geometry(), dy, scale, dx)
            self._measure(dx, x, 0, _SQUARES, along)
            rule = self.absolute, self.fix_gradient, top[1].gpu_diff() if self.bp_norm else 0
            self.kernel("backward")(bottom[0].count, *self._geometry(), *rule, x, length, along, dx)

    def _measure(self, a: int, b: int, eps: float, kind: int, out: int) -> None:
        """Write to `out` the sums of a b + eps, their roots, or the sums of |a| + eps."""
        samples, _, vectors = self.length.shape
        span = self.places // vectors  # places that belong to one vector
        arguments = (self.channels, self.places, span, eps, kind, a, b, out)
        self.kernel("products").launch((samples * vectors, 1), 32 if span == 1 else 256, *arguments)

    def _geometry(self) -> tuple[int, ...]:
        return self.channels, self.places, int(self.shared), int(self.across_spatial)

    def _device_scale(self) -> int:
        return self.blobs[0].gpu_data() if self.scaled else 0
