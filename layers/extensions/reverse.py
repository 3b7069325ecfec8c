"""Reverse: turns an axis round."""

import numpy as np

from minicaffe.core.blob import canonical_axis
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda.strided import StridedView


@register("Reverse")
class Reverse(Layer):
    """y[..., i, ...] = x[..., n - 1 - i, ...] on one axis of length n

    bottom, top: any shape with that axis.
    reverse_param: axis (0); negative: from the last.
    In front of an Lstm and behind it, it makes the direction from the last step to the first.
    Source: CTPN's, caffe_ocr's and jolibrain's forks.
    """

    fork = "CTPN; caffe_ocr"
    family = "arrangement"
    exact_num_bottom = exact_num_top = 1
    in_place = False
    backward_reads = ()

    def turned(self, num_axes: int) -> tuple[int, ...]:
        """Return the axes that are turned round."""
        return (canonical_axis(self.layer_param.reverse_param.axis, num_axes),)

    def top_shapes(self, bottom_shapes):
        self.turned(len(bottom_shapes[0]))
        return bottom_shapes

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.axes = self.turned(bottom[0].num_axes)
        self.view = StridedView(bottom[0].shape, backwards=self.axes)

    def forward_cpu(self, bottom, top):
        top[0].data[...] = np.flip(bottom[0].read_data(), self.axes)

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff[...] = np.flip(top[0].read_diff(), self.axes)

    def forward_gpu(self, bottom, top):
        self.view.take(bottom[0].gpu_data(), top[0].mutable_gpu_data(), self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            self.view.put(top[0].gpu_diff(), bottom[0].mutable_gpu_diff(), self.dtype)
