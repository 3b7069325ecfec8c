"""Concat: joins bottoms along an axis."""

import numpy as np

from minicaffe.core.blob import canonical_axis
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


@register("Concat")
class Concat(Layer):
    """y = the bottoms one after another along `axis`; all other axes must be equal.

    Bottoms: x_i (..., n_i, ...).  Top: (..., sum of n_i, ...).  With one bottom, the top shares its memory.
    concat_param: axis (1; -1 is the last), or concat_dim, its older name; not both.
    """

    family = "arrangement"
    min_bottom = 1
    exact_num_top = 1
    in_place = False
    backward_reads = ()

    @staticmethod
    def describe(layer_param):
        return f"axis {layer_param.concat_param.axis}"

    def setup(self, bottom, top):
        param = self.layer_param.concat_param
        if param.HasField("axis") and param.HasField("concat_dim"):
            raise self.error("give axis or concat_dim, not both")
        self.given_axis = param.concat_dim if param.HasField("concat_dim") else param.axis

    def top_shapes(self, bottom_shapes):
        first = bottom_shapes[0]
        axis = canonical_axis(self.given_axis, len(first))
        for i, shape in enumerate(bottom_shapes):
            if len(shape) != len(first) or shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
                raise self.error(f"bottom {i} must agree with bottom 0 {first} in all axes but {axis}, got {shape}")
        return [first[:axis] + (sum(shape[axis] for shape in bottom_shapes),) + first[axis + 1 :]]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.axis = canonical_axis(self.given_axis, bottom[0].num_axes)
        if len(bottom) == 1:
            top[0].share_data(bottom[0])
            top[0].share_diff(bottom[0])

    def forward_cpu(self, bottom, top):
        if len(bottom) > 1:
            np.concatenate([b.read_data() for b in bottom], self.axis, out=top[0].data)

    def backward_cpu(self, top, propagate_down, bottom):
        if len(bottom) == 1:
            return
        dy, start = top[0].read_diff().swapaxes(0, self.axis), 0
        for blob, wanted in zip(bottom, propagate_down):
            end = start + blob.shape[self.axis]
            if wanted:
                blob.diff.swapaxes(0, self.axis)[...] = dy[start:end]
            start = end

    def forward_gpu(self, bottom, top):
        y, whole, start = top[0].mutable_gpu_data(), top[0].count_range(self.axis), 0
        for blob in bottom if len(bottom) > 1 else ():
            length = blob.count_range(self.axis)
            self.kernel("put")(blob.count, length, whole, start, blob.gpu_data(), y)
            start += length

    def backward_gpu(self, top, propagate_down, bottom):
        dy, whole, start = top[0].gpu_diff(), top[0].count_range(self.axis), 0
        for blob, wanted in zip(bottom if len(bottom) > 1 else (), propagate_down):
            length = blob.count_range(self.axis)
            if wanted:
                self.kernel("take")(blob.count, length, whole, start, dy, blob.mutable_gpu_diff())
            start += length
