"""BatchReindex: takes items of a batch by their numbers."""

import numpy as np

from minicaffe.layer import Layer, register


@register("BatchReindex")
class BatchReindex(Layer):
    """y[i] = x[index[i]]; an item may be taken several times, or not at all.

    Bottoms: x (N, ...), index (M,) of numbers 0 to N - 1.  Top: (M, ...).  No gradient goes to the index.
    """

    exact_num_bottom = 2
    exact_num_top = 1

    def allow_force_backward(self, bottom_index):
        return bottom_index == 0

    def top_shapes(self, bottom_shapes):
        x, index = bottom_shapes
        if len(index) != 1 or not x:
            raise self.error(f"bottoms must be (N, ...) and (M,), got {x} and {index}")
        return [index + x[1:]]

    def _index(self, bottom):
        index, n = bottom[1].read_data().astype(np.int32), bottom[0].shape[0]
        wrong = (index < 0) | (index >= n)
        if wrong.any():
            raise self.error(f"index {index[wrong][0]} is out of range: bottom 0 holds {n} items")
        return index

    def forward_cpu(self, bottom, top):
        top[0].data[...] = bottom[0].read_data()[self._index(bottom)]

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[1]:
            raise self.error("there is no gradient with respect to the index (bottom 1)")
        if propagate_down[0]:
            dx = bottom[0].diff
            dx[...] = 0
            np.add.at(dx, self._index(bottom), top[0].read_diff())
