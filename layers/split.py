"""Split: copies of a blob for several readers, each with its own diff."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops


@register("Split")
class Split(Layer):
    """y_i = x; the bottom's diff is the sum of the tops' diffs.

    Bottom: any shape.  Tops: one or more of that shape, which share its data.  The net inserts a Split behind
    every blob with several readers.
    """

    family = "arrangement"
    keeps_coordinates = True
    exact_num_bottom = 1
    min_top = 1
    in_place = False
    backward_reads = ()

    def top_shapes(self, bottom_shapes):
        return bottom_shapes * self.num_tops

    def setup(self, bottom, top):
        self.num_tops = len(top)

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        for blob in top:
            blob.share_data(bottom[0])

    def forward_cpu(self, bottom, top):
        pass  # the data are shared

    forward_gpu = forward_cpu

    def backward_cpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        dx, dys = bottom[0].diff, [t.read_diff() for t in top]
        if len(dys) == 1:
            dx[...] = dys[0]
            return
        np.add(dys[0], dys[1], out=dx)
        for dy in dys[2:]:
            dx += dy

    def backward_gpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        n, dx, dys = bottom[0].count, bottom[0].mutable_gpu_diff(), [t.gpu_diff() for t in top]
        if len(dys) == 1:
            ops.copy(n, dys[0], dx, self.dtype)
            return
        ops.add(n, dys[0], dys[1], dx, self.dtype)
        for dy in dys[2:]:
            ops.axpy(n, 1, dy, dx, self.dtype)
