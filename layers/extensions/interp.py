"""Interp: bilinear interpolation to another height and width."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.resampling import aligned_weights


@register("Interp")
class Interp(Layer):
    """y = A x B^T for each picture, with the weights of linear interpolation A (H, h) and B (W, w)

    The corners of bottom and top coincide: row i of the top is at row i (h - 1) / (H - 1) of the bottom.

    bottoms: (N, C, h, w), axes that are missing at the end have the length 1; with use_blob_size a reference, of which
        only height and width are read; top: (N, C, H, W)

    interp_param: height and width; or zoom_factor z, H = h + (h - 1) (z - 1); or shrink_factor s,
        H = (h - 1) / s + 1, rounded down; or shrink, then zoom.  pad_beg and pad_end, 0 or negative, crop the
        bottom first, at the near and the far sides.  use_blob_size (false; true: H and W are those of bottom 1).
    Source: Chen et al., DeepLab, 2014.
    """

    fork = "DeepLab"
    min_bottom, max_bottom = 1, 2
    no_gradient = (1,)
    exact_num_top = 1
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.param = param = self.layer_param.interp_param
        self.begin, self.end = -param.pad_beg, -param.pad_end
        if self.begin < 0 or self.end < 0:
            raise self.error(f"pad_beg and pad_end must not be positive, got {param.pad_beg} and {param.pad_end}")
        if param.zoom_factor < 1 or param.shrink_factor < 1:
            raise self.error("zoom_factor and shrink_factor must be at least 1")
        if param.use_blob_size != (len(bottom) == 2):
            raise self.error(f"use_blob_size must be given with two bottoms, and only then, got {len(bottom)}")
        factors = param.HasField("zoom_factor") or param.HasField("shrink_factor")
        if not param.use_blob_size and not factors and not (param.height > 0 and param.width > 0):
            raise self.error("height and width, zoom_factor or shrink_factor must be given")

    def top_shapes(self, bottom_shapes):
        for i, each in enumerate(bottom_shapes):
            if len(each) > 4:
                raise self.error(f"bottom {i} must be (N, C, H, W), got {each}")
        shape, *reference = map(_four_axes, bottom_shapes)
        cropped = [n - self.begin - self.end for n in shape[2:]]
        if min(cropped) < 1:
            raise self.error(f"pad_beg and pad_end leave nothing of bottom 0 of shape {shape}")
        size = reference[0][2:] if self.param.use_blob_size else self._size(cropped)
        return [(*shape[:2], *size)]

    def _size(self, cropped: list[int]) -> list[int]:
        zoom, shrink = self.param.HasField("zoom_factor"), self.param.HasField("shrink_factor")
        if zoom == shrink and self.param.height > 0 and self.param.width > 0:
            return [self.param.height, self.param.width]
        shrunk = [(n - 1) // self.param.shrink_factor + 1 for n in cropped]
        return [n + (n - 1) * (self.param.zoom_factor - 1) for n in shrunk]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.size = _four_axes(bottom[0].shape)[2:]
        self.cropped = [n - self.begin - self.end for n in self.size]
        self.weights = [aligned_weights(n, m).astype(self.dtype) for n, m in zip(self.cropped, top[0].shape[2:])]

    def forward_cpu(self, bottom, top):
        rows, columns = self.weights
        np.matmul(rows, _row_by_row(self._crop(bottom[0].read_data()), columns.T), out=top[0].data)

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            rows, columns = self.weights
            bottom[0].diff = 0
            self._crop(bottom[0].diff)[...] = _row_by_row(rows.T @ top[0].read_diff(), columns)

    def forward_gpu(self, bottom, top):
        self.kernel("forward")(
            top[0].count, *self._geometry(bottom, top), bottom[0].gpu_data(), top[0].mutable_gpu_data()
        )

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            dy, dx = top[0].gpu_diff(), bottom[0].mutable_gpu_diff()
            self.kernel("backward")(bottom[0].count, *self._geometry(bottom, top), dy, dx)

    def _geometry(self, bottom, top) -> tuple[int, ...]:
        return (*self.size, self.begin, *self.cropped, *top[0].shape[2:])

    def _crop(self, x):
        height, width = self.cropped
        x = x.reshape(_four_axes(x.shape))
        return x[:, :, self.begin : self.begin + height, self.begin : self.begin + width]


def _four_axes(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    n, channels, height, width = (*shape, *[1] * (4 - len(shape)))
    return n, channels, height, width


def _row_by_row(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """x @ matrix for all rows of all pictures in one product, several times as fast as one for each picture."""
    *outer, rows, length = x.shape
    return (x.reshape(math.prod(outer) * rows, length) @ matrix).reshape(*outer, rows, matrix.shape[1])
