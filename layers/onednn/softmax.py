"""Softmax by oneDNN."""

from __future__ import annotations

from minicaffe.core.blob import canonical_axis
from minicaffe.core.registry import register
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.layers.softmax import Softmax
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Arg


@register("Softmax", engine="ONEDNN")
class OneDNNSoftmax(OneDNNLayer, Softmax):
    __doc__ = Softmax.__doc__

    def make(self, desc, axis):
        """Forward and backward primitive for one layout."""
        forward = primitives.softmax(desc, desc, axis)
        return forward, primitives.softmax_backward(desc, desc, desc, axis, forward)

    def primitives_for(self, blob, desc):
        """Forward and backward primitive for a blob in the layout `desc`."""
        return self.plan(self.make, desc, canonical_axis(self.given_axis, blob.num_axes))

    def forward_onednn(self, bottom, top):
        x = layouts.data(bottom[0])
        forward, _ = self.primitives_for(bottom[0], x.desc)
        self.execute(forward, Arg.SRC, x, Arg.DST, layouts.mutable_data(top[0], x.desc))

    def backward_onednn(self, top, propagate_down, bottom):
        if propagate_down[0]:
            y = layouts.data(top[0])
            _, backward = self.primitives_for(bottom[0], y.desc)
            dy = layouts.diff(top[0], y.desc)
            dx = layouts.mutable_diff(bottom[0], y.desc)
            self.execute(backward, Arg.DST, y, Arg.DIFF_DST, dy, Arg.DIFF_SRC, dx)
