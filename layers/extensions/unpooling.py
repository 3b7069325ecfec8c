"""Unpooling: undoes the reduction of a Pooling layer, as DeconvNet does."""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.masked_places import MaskedPlaces
from minicaffe.layers.shared.resampling import Resampling
from minicaffe.layers.shared.window import pool_window
from minicaffe.proto.caffe_pb2 import PoolingParameter, UnpoolingParameter


@register("Unpooling")
class Unpooling(Layer):
    """MAX: y[n, c, mask[n, c, i]] = x[n, c, i], 0 elsewhere; without a mask, in the first place of window i
    TILE: y = the sum of x over all windows that cover a place
    AVE: the same with x divided by the number of places that its window covers

    bottoms: x (N, C, h, w); optionally mask (N, C, h, w), the second top of a MAX Pooling, which MAX reads.  top:
    (N, C, H, W).  If two values have one place with MAX, the later one is kept.

    unpooling_param: unpool MAX; unpool_size, or unpool_h and unpool_w: H, W; kernel_size (or kernel_h, kernel_w) and
        stride 1 (or stride_h, stride_w): window i begins at i * stride.  pad must be 0.
    Source: Noh, Hong and Han, Learning deconvolution network for semantic segmentation, 2015.
    """

    fork = "DeconvNet"
    min_bottom, max_bottom = 1, 2
    exact_num_top = 1
    no_gradient = (1,)
    in_place = False
    backward_reads = ("bottom",)

    @staticmethod
    def describe(layer_param):
        param = layer_param.unpooling_param
        return UnpoolingParameter.UnpoolMethod.Name(param.unpool)

    def setup(self, bottom, top):
        param = self.layer_param.unpooling_param
        window = {field.name: value for field, value in param.ListFields() if field.name in _OF_WINDOWS}
        self.window = pool_window(PoolingParameter(**window), (1, 1))  # over two axes
        if any(self.window.pad):
            raise self.error(f"pad must be 0, got {self.window.pad}")
        if param.HasField("unpool_size") == (param.HasField("unpool_h") or param.HasField("unpool_w")):
            raise self.error("give either unpool_size or unpool_h and unpool_w")
        self.size = (param.unpool_size,) * 2 if param.HasField("unpool_size") else (param.unpool_h, param.unpool_w)
        if min(self.size) < 1:
            raise self.error(f"the size of the top must be at least 1 x 1, got {self.size[0]} x {self.size[1]}")
        self.method = param.unpool
        self.mask = Blob((), self.dtype)  # for MAX without a bottom
        self.places = MaskedPlaces(self)

    def top_shapes(self, bottom_shapes):
        if len(bottom_shapes[0]) != 4 or 0 in bottom_shapes[0][2:] or len(set(bottom_shapes)) > 1:
            raise self.error(f"bottoms must be (N, C, h, w), got {' and '.join(map(str, bottom_shapes))}")
        return [(*bottom_shapes[0][:2], *self.size)]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        shape, average = bottom[0].shape, self.method == UnpoolingParameter.AVE
        axes = list(zip(shape[2:], self.size, self.window.kernel, self.window.stride))
        if self.method != UnpoolingParameter.MAX:
            self.spread = Resampling((_covered(*axis, average) for axis in axes), self.dtype)
        elif len(bottom) == 1:
            rows, columns = (np.minimum(np.arange(n) * stride, size - 1) for n, size, _, stride in axes)
            self.mask.reshape(shape)
            self.mask.data[...] = np.add.outer(rows * self.size[1], columns)

    def forward_cpu(self, bottom, top):
        if self.method == UnpoolingParameter.MAX:
            self.places.apply(bottom[0], self._mask_of(bottom), top[0])
        else:
            self.spread.forward(bottom[0].read_data(), top[0].data)

    def backward_cpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        if self.method == UnpoolingParameter.MAX:
            self.places.adjoint(top[0], self._mask_of(bottom), bottom[0])
        else:
            self.spread.backward(top[0].read_diff(), bottom[0].diff)

    def forward_gpu(self, bottom, top):
        if self.method == UnpoolingParameter.MAX:
            self.places.apply_gpu(bottom[0], self._mask_of(bottom), top[0])
        else:
            self.spread.forward_gpu(bottom[0].count_range(0, 2), bottom[0].gpu_data(), top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        if self.method == UnpoolingParameter.MAX:
            self.places.adjoint_gpu(top[0], self._mask_of(bottom), bottom[0])
        else:
            self.spread.backward_gpu(bottom[0].count_range(0, 2), top[0].gpu_diff(), bottom[0].mutable_gpu_diff())

    def _mask_of(self, bottom):
        return bottom[1] if len(bottom) > 1 else self.mask


_OF_WINDOWS = [f"{name}{part}" for name in ("kernel", "stride", "pad") for part in ("", "_size", "_h", "_w")]


def _covered(windows: int, size: int, kernel: int, stride: int, average: bool) -> np.ndarray:
    """Return the share (size, windows) of each window that each place gets: 1, or with `average` 1 / its places."""
    place, start = np.arange(size)[:, None], np.arange(windows) * stride
    covered = ((place >= start) & (place < start + kernel)).astype(np.float64)
    return covered / np.maximum(covered.sum(0), 1) if average else covered
