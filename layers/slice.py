"""Slice: cuts a bottom into several tops along an axis."""

import numpy as np

from minicaffe.core.blob import canonical_axis
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


@register("Slice")
class Slice(Layer):
    """y_i = the i-th part of x along `axis`; the inverse of Concat.

    Bottom: (..., n, ...).  Tops: (..., n_i, ...), the n_i sum to n.  A single top shares the bottom's memory.
    slice_param: axis (1; -1 is the last), or slice_dim, its older name; slice_point: where each top but
    the first begins, strictly increasing; without it the parts are equal.
    """

    family = "arrangement"
    exact_num_bottom = 1
    min_top = 1
    in_place = False
    backward_reads = ()

    @staticmethod
    def describe(layer_param):
        return f"axis {layer_param.slice_param.axis}"

    def setup(self, bottom, top):
        param = self.layer_param.slice_param
        if param.HasField("axis") and param.HasField("slice_dim"):
            raise self.error("give axis or slice_dim, not both")
        self.given_axis = param.slice_dim if param.HasField("slice_dim") else param.axis
        self.points, self.num_tops = list(param.slice_point), len(top)
        if self.points and len(self.points) != self.num_tops - 1:
            raise self.error(f"{self.num_tops} tops need {self.num_tops - 1} slice_point(s), got {self.points}")

    def bounds(self, length: int) -> list[int]:
        """Return the first index of each part, and the end of the axis."""
        if not self.points:
            if length % self.num_tops:
                raise self.error(f"axis of length {length} cannot be cut into {self.num_tops} equal tops")
            return list(range(0, length + 1, length // self.num_tops)) if length else [0] * (self.num_tops + 1)
        bounds = [0, *self.points, length]
        if any(a >= b for a, b in zip(bounds, bounds[1:])):
            raise self.error(f"slice_point must increase strictly between 0 and {length}, got {self.points}")
        return bounds

    def top_shapes(self, bottom_shapes):
        shape = bottom_shapes[0]
        axis = canonical_axis(self.given_axis, len(shape))
        bounds = self.bounds(shape[axis])
        return [shape[:axis] + (end - start,) + shape[axis + 1 :] for start, end in zip(bounds, bounds[1:])]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.axis = canonical_axis(self.given_axis, bottom[0].num_axes)
        if len(top) == 1:
            top[0].share_data(bottom[0])
            top[0].share_diff(bottom[0])

    def forward_cpu(self, bottom, top):
        if len(top) == 1:
            return
        x, start = bottom[0].read_data().swapaxes(0, self.axis), 0
        for blob in top:
            end = start + blob.shape[self.axis]
            blob.data.swapaxes(0, self.axis)[...] = x[start:end]
            start = end

    def backward_cpu(self, top, propagate_down, bottom):
        if len(top) > 1 and propagate_down[0]:
            np.concatenate([t.read_diff() for t in top], self.axis, out=bottom[0].diff)

    def forward_gpu(self, bottom, top):
        x, whole, start = bottom[0].gpu_data(), bottom[0].count_range(self.axis), 0
        for blob in top if len(top) > 1 else ():
            length = blob.count_range(self.axis)
            self.kernel("take")(blob.count, length, whole, start, x, blob.mutable_gpu_data())
            start += length

    def backward_gpu(self, top, propagate_down, bottom):
        if len(top) == 1 or not propagate_down[0]:
            return
        dx, whole, start = bottom[0].mutable_gpu_diff(), bottom[0].count_range(self.axis), 0
        for blob in top:
            length = blob.count_range(self.axis)
            self.kernel("put")(blob.count, length, whole, start, blob.gpu_diff(), dx)
            start += length

    @classmethod
    def kernel_file(cls):
        return "concat"
