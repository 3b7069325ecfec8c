"""Softmax: scores to probabilities."""

import math

import numpy as np

from minicaffe.core.blob import canonical_axis
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda.kernels import kernel


@register("Softmax")
class Softmax(Layer):
    """y = exp(x - max x) / sum exp(x - max x), along `axis`.

    One bottom of any shape, one top of the same; in place if wanted.  softmax_param: axis (1).
    """

    exact_num_bottom = exact_num_top = 1
    in_place = True
    backward_reads = ("top",)

    def setup(self, bottom, top):
        self.given_axis = self.layer_param.softmax_param.axis

    def top_shapes(self, bottom_shapes):
        canonical_axis(self.given_axis, len(bottom_shapes[0]))
        return bottom_shapes

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.view = three_axes(bottom[0].shape, self.given_axis)

    def forward_cpu(self, bottom, top):
        softmax(bottom[0].read_data().reshape(self.view), top[0].data.reshape(self.view))

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            y, dy = top[0].read_data().reshape(self.view), top[0].read_diff().reshape(self.view)
            dx = bottom[0].diff.reshape(self.view)
            np.subtract(dy, (dy * y).sum(axis=1, keepdims=True), out=dx)
            dx *= y

    def forward_gpu(self, bottom, top):
        softmax_gpu(bottom[0].gpu_data(), top[0].mutable_gpu_data(), self.view, self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            outer, classes, inner = self.view
            y, dy, dx = top[0].gpu_data(), top[0].gpu_diff(), bottom[0].mutable_gpu_diff()
            if inner == 1:
                self.kernel("rows_backward").launch((max(outer, 1), 1), row_threads(classes), outer, classes, y, dy, dx)
            else:
                self.kernel("columns_backward")(outer * inner, classes, inner, y, dy, dx)


def three_axes(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """(outer, length of the axis, inner): what lies before, on and after an axis."""
    axis = canonical_axis(axis, len(shape))
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def softmax(x: np.ndarray, y: np.ndarray) -> None:
    """Write the softmax of x along axis 1 into y; both (outer, classes, inner)."""
    np.subtract(x, x.max(axis=1, keepdims=True, initial=np.finfo(x.dtype).min), out=y)
    np.exp(y, out=y)
    y /= y.sum(axis=1, keepdims=True)


def softmax_gpu(x: int, y: int, view: tuple[int, int, int], dtype: np.dtype) -> None:
    """`softmax` on the device: a block for each row where a row is contiguous, else a thread for each."""
    outer, classes, inner = view
    if inner == 1:
        kernel("softmax", "rows", dtype).launch((max(outer, 1), 1), row_threads(classes), outer, classes, x, y)
    else:
        kernel("softmax", "columns", dtype)(outer * inner, classes, inner, x, y)


def row_threads(length: int) -> int:
    """How many threads work on a row: whole warps."""
    return min(256, -(-max(length, 1) // 32) * 32)
