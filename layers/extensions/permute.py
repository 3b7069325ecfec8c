"""Permute: transposes the axes."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda.strided import StridedView


@register("Permute")
class Permute(Layer):
    """y[i_order[0], i_order[1], ...] = x[i_0, i_1, ...]

    Axis k of the top is axis order[k] of the bottom; axes that `order` leaves out follow in their old order.

    bottom: any shape; top: the same lengths in the new order.
    permute_param: order, any number of axes.
    Source: Liu et al., SSD, 2016.
    """

    fork = "SSD"
    family = "arrangement"
    exact_num_bottom = exact_num_top = 1
    in_place = False
    backward_reads = ()

    def order(self, num_axes: int) -> tuple[int, ...]:
        """Return the bottom's axis for each axis of the top."""
        given = list(self.layer_param.permute_param.order)
        if len(set(given)) != len(given) or any(axis >= num_axes for axis in given):
            raise self.error(f"order must name different axes below {num_axes}, got {given}")
        return (*given, *(axis for axis in range(num_axes) if axis not in given))

    def top_shapes(self, bottom_shapes):
        shape = bottom_shapes[0]
        return [tuple(shape[axis] for axis in self.order(len(shape)))]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.view = StridedView(bottom[0].shape, order=self.order(bottom[0].num_axes))

    def forward_cpu(self, bottom, top):
        top[0].data[...] = bottom[0].read_data().transpose(self.order(bottom[0].num_axes))

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            back = np.argsort(self.order(bottom[0].num_axes))
            bottom[0].diff[...] = top[0].read_diff().transpose(back)

    def forward_gpu(self, bottom, top):
        self.view.take(bottom[0].gpu_data(), top[0].mutable_gpu_data(), self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            self.view.put(top[0].gpu_diff(), bottom[0].mutable_gpu_diff(), self.dtype)
