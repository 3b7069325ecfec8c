"""Dropout by oneDNN: the mask, drawn in row-major order, is converted to the layout of the bottom."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.dropout import Dropout
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Alg, Arg


@register("Dropout", engine="ONEDNN")
class OneDNNDropout(OneDNNLayer, Dropout):
    __doc__ = Dropout.__doc__
    reads_blobs_only = True
    replayable = Dropout.replayable  # masks are drawn on the host

    def expressible(self, bottom, top):
        return self.drops

    def make(self, desc):
        return primitives.binary(Alg.MUL, desc, desc, desc)

    def multiply(self, x, y):
        """y = x * mask"""
        mask = layouts.data(self.mask, x.desc)
        self.execute(self.plan(self.make, x.desc), Arg.SRC, x, Arg.SRC_1, mask, Arg.DST, y)

    def forward_onednn(self, bottom, top):
        self.draw_mask()
        x = layouts.data(bottom[0])
        self.multiply(x, layouts.mutable_data(top[0], x.desc))

    def backward_onednn(self, top, propagate_down, bottom):
        if propagate_down[0]:
            dy = layouts.diff(top[0])
            self.multiply(dy, layouts.mutable_diff(bottom[0], dy.desc))
