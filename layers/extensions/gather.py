"""Gather: joins the blobs of several machines, of which there is one here."""

from __future__ import annotations

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops


@register("Gather")
class Gather(Layer):
    """y_i = x_i, dx_i = dy_i.

    bottoms: any number, of any shapes; tops: as many, of the same shapes.  A top whose bottom needs no gradient, such
        as a label, needs none either.

    In the fork the tops hold the bottoms of all machines of a training, one behind the other, so that each machine
    computes the layers behind for all of them.  Here ranks average their gradients, which gives the same.
    Source: Wang et al., Towards Good Practices for Very Deep Two-Stream ConvNets, 2015 (its Caffe).
    """

    fork = "TSN"
    family = "arrangement"
    keeps_coordinates = True
    min_bottom = 1
    min_top = 1
    equal_num_bottom_top = in_pairs = True
    in_place = False
    backward_reads = ()

    def top_shapes(self, bottom_shapes):
        return bottom_shapes

    def forward_cpu(self, bottom, top):
        for x, y in zip(bottom, top):
            y.data = x.read_data()

    def backward_cpu(self, top, propagate_down, bottom):
        for x, y, wanted in zip(bottom, top, propagate_down):
            if wanted:
                x.diff = y.read_diff()

    def forward_gpu(self, bottom, top):
        for x, y in zip(bottom, top):
            ops.copy(x.count, x.gpu_data(), y.mutable_gpu_data(), self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        for x, y, wanted in zip(bottom, top, propagate_down):
            if wanted:
                ops.copy(x.count, y.gpu_diff(), x.mutable_gpu_diff(), self.dtype)
