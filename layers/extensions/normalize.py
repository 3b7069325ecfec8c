"""Normalize: vectors to length 1, times a learned scale."""

from __future__ import annotations

import numpy as np

from minicaffe.blob import Blob
from minicaffe.layer import Layer, register
from minicaffe.layers.views import by_channel
from minicaffe.proto import caffe_pb2


@register("Normalize")
class Normalize(Layer):
    """y = scale * x / sqrt(sum of x^2 + eps), the sum over the channels, and over the places if across_spatial

    bottom, top: (N, C, ...)
    blobs: scale, one number () with channel_shared, else (C)

    norm_param: across_spatial true, channel_shared true, scale_filler constant 1, eps 1e-10.
    Source: Liu, Rabinovich and Berg, ParseNet, 2015, as SSD uses it.
    """

    exact_num_bottom = 1
    exact_num_top = 1
    in_place = True
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        param = self.layer_param.norm_param
        self.across_spatial, self.shared, self.eps = param.across_spatial, param.channel_shared, param.eps
        if bottom[0].num_axes < 2:
            raise self.error(f"bottom 0 must be (N, C, ...), got {bottom[0].shape}")
        self.channels = bottom[0].shape[1]
        self.length = Blob((), self.dtype)

    def param_shapes(self, bottom_shapes):
        param = self.layer_param.norm_param
        one = caffe_pb2.FillerParameter(type="constant", value=1)
        filler = param.scale_filler if param.HasField("scale_filler") else one
        return [(() if self.shared else (self.channels,), filler)]

    def top_shapes(self, bottom_shapes):
        if len(bottom_shapes[0]) < 2 or bottom_shapes[0][1] != self.channels:
            raise self.error(f"bottom 0 must be (N, C, ...) with {self.channels} channels, got {bottom_shapes[0]}")
        return bottom_shapes

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.places = bottom[0].count_range(2)
        self.length.reshape(bottom[0].shape[0], 1, 1 if self.across_spatial else self.places)

    def forward_cpu(self, bottom, top):
        x = by_channel(bottom[0].read_data())
        axes = (1, 2) if self.across_spatial else 1
        self.length.data = np.sqrt((x * x).sum(axes, keepdims=True) + self.eps)
        by_channel(top[0].data)[...] = x / self.length.read_data() * self._scale()

    def backward_cpu(self, top, propagate_down, bottom):
        length, dy = self.length.read_data(), by_channel(top[0].read_diff())
        unit = by_channel(bottom[0].read_data()) / length
        if self.param_propagate_down[0]:
            self.blobs[0].diff += (dy * unit).sum() if self.shared else (dy * unit).sum((0, 2))
        if propagate_down[0]:
            dy = dy * self._scale()
            axes = (1, 2) if self.across_spatial else 1
            by_channel(bottom[0].diff)[...] = (dy - unit * (dy * unit).sum(axes, keepdims=True)) / length

    def forward_gpu(self, bottom, top):
        x, length, y = bottom[0].gpu_data(), self.length.mutable_gpu_data(), top[0].mutable_gpu_data()
        self._measure(x, x, self.eps, 1, length)
        self.kernel("forward")(bottom[0].count, *self._geometry(), x, length, self.blobs[0].gpu_data(), y)

    def backward_gpu(self, top, propagate_down, bottom):
        x, dy, length, scale = bottom[0].gpu_data(), top[0].gpu_diff(), self.length.gpu_data(), self.blobs[0].gpu_data()
        if self.param_propagate_down[0]:
            count = bottom[0].shape[0] * self.places
            arguments = (count, *self._geometry(), x, dy, length, self.blobs[0].mutable_gpu_diff())
            self.kernel("scale_gradient").launch((1 if self.shared else self.channels, 1), 256, *arguments)
        if propagate_down[0]:
            along, dx = self.length.mutable_gpu_diff(), bottom[0].mutable_gpu_diff()
            self.kernel("weighted")(bottom[0].count, *self._geometry(), dy, scale, dx)
            self._measure(dx, x, 0, 0, along)
            self.kernel("backward")(bottom[0].count, *self._geometry(), x, length, along, dx)

    def _measure(self, a: int, b: int, eps: float, root: int, out: int) -> None:
        """out = the sums of a b + eps, or the roots of them."""
        samples, _, vectors = self.length.shape
        span = self.places // vectors  # the places that one vector takes in
        arguments = (self.channels, self.places, span, eps, root, a, b, out)
        self.kernel("products").launch((samples * vectors, 1), 32 if span == 1 else 256, *arguments)

    def _geometry(self) -> tuple[int, ...]:
        return self.channels, self.places, int(self.shared), int(self.across_spatial)

    def _scale(self):
        return self.blobs[0].read_data() if self.shared else self.blobs[0].read_data()[:, None]
