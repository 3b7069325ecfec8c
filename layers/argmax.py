"""ArgMax: the indices of the largest numbers, and their values."""

import numpy as np

from minicaffe.core.blob import canonical_axis
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register


@register("ArgMax")
class ArgMax(Layer):
    """The indices of the top_k largest numbers, largest first, the later of two equal ones first.  No gradient.

    nan counts as minus infinity (in the original the result depends on the position of the nan).

    Bottom: (N, ...).
    Top, without axis: over all numbers of a sample, (N, 1, top_k) indices, or with out_max_val (N, 2, top_k), indices
    and values; axes of length 1 follow, up to the number of axes of the bottom.
    Top, with axis: the bottom's shape with top_k on that axis; indices, or with out_max_val the values.
    argmax_param: out_max_val (false), top_k (1), axis.
    """

    family = "loss"
    exact_num_bottom = exact_num_top = 1
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        param = self.layer_param.argmax_param
        self.out_max_val, self.top_k = param.out_max_val, param.top_k
        self.given_axis = param.axis if param.HasField("axis") else None

    def top_shapes(self, bottom_shapes):
        shape, k = bottom_shapes[0], self.top_k
        if self.given_axis is None:
            if not shape:
                raise self.error("bottom 0 must be (N, ...), got a scalar, a blob without axes")
            length = int(np.prod(shape[1:]))
            result = (shape[0], 2 if self.out_max_val else 1, k) + (1,) * (len(shape) - 3)
        else:
            axis = canonical_axis(self.given_axis, len(shape))
            length, result = shape[axis], shape[:axis] + (k,) + shape[axis + 1 :]
        if not 1 <= k <= length:
            raise self.error(f"top_k must be 1 to {length}, the numbers there are to choose from, got {k}")
        return [result]

    def forward_cpu(self, bottom, top):
        x = bottom[0].read_data()
        if self.given_axis is None:
            x = x.reshape(x.shape[0], bottom[0].count_range(1))
            index = self._largest(x, 1)
            parts = [index, np.take_along_axis(x, index, 1)] if self.out_max_val else [index]
            top[0].data.reshape(x.shape[0], len(parts), self.top_k)[...] = np.stack(parts, axis=1)
        else:
            axis = canonical_axis(self.given_axis, x.ndim)
            index = self._largest(x, axis)
            top[0].data[...] = np.take_along_axis(x, index, axis) if self.out_max_val else index

    def _largest(self, x, axis):
        """Return the indices of the top_k largest numbers along an axis."""
        if x.size and np.isnan(x.min()):
            x = np.where(np.isnan(x), -np.inf, x)
        if self.top_k == 1:
            return x.shape[axis] - 1 - np.argmax(np.flip(x, axis), axis, keepdims=True)
        order = np.flip(np.argsort(x, axis, kind="stable"), axis)
        return np.take(order, range(self.top_k), axis)

    def forward_gpu(self, bottom, top):
        shape = bottom[0].shape
        axis = None if self.given_axis is None else canonical_axis(self.given_axis, len(shape))
        if axis is None:
            outer, length, inner = shape[0], bottom[0].count_range(1), 1
            want_index, want_value = True, self.out_max_val
        else:
            outer, length, inner = bottom[0].count_range(0, axis), shape[axis], bottom[0].count_range(axis + 1)
            want_index, want_value = not self.out_max_val, self.out_max_val
        x, y = bottom[0].gpu_data(), top[0].mutable_gpu_data()
        self.kernel("largest")(outer * inner, length, inner, self.top_k, want_index, want_value, x, y)
