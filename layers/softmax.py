"""Softmax: turns scores into probabilities."""

import numpy as np

from minicaffe.core.blob import canonical_axis
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.softmax import row_geometry, softmax, softmax_gpu, three_axes


@register("Softmax")
class Softmax(Layer):
    """y = exp(x - max x) / sum exp(x - max x), along `axis`.

    bottom, top: any shape; in place if wanted.
    softmax_param: axis (1).
    """

    family = "loss"
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
            grid, threads = row_geometry(self.view)
            self.kernel("backward").launch(grid, threads, outer * inner, classes, inner, y, dy, dx)
