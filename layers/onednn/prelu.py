"""PReLU by oneDNN."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.layers.prelu import PReLU
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Arg
from minicaffe.onednn.tensors import Tensor, plain


@register("PReLU", engine="ONEDNN")
class OneDNNPReLU(OneDNNLayer, PReLU):
    __doc__ = PReLU.__doc__

    def expressible(self, bottom, top):
        return bottom[0].num_axes <= 5

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.slope_shape = (1, self.covered) + (1,) * (bottom[0].num_axes - 2)
        if self.native:
            self.slope_diff = Tensor(plain(self.slope_shape))

    def make(self, desc):
        """Forward and backward primitive for one layout."""
        forward = primitives.prelu(desc, plain(self.slope_shape), desc)
        return forward, primitives.prelu_backward(desc, plain(self.slope_shape), desc, forward)

    def slope(self) -> Tensor:
        """The slopes (1, C, 1, ...), in row-major order."""
        return layouts.read(self.blobs[0].data_memory, self.slope_shape, plain(self.slope_shape))

    def forward_onednn(self, bottom, top):
        x = layouts.data(bottom[0])
        forward, _ = self.plan(self.make, x.desc)
        y = layouts.mutable_data(top[0], x.desc)
        self.execute(forward, Arg.SRC, x, Arg.WEIGHTS, self.slope(), Arg.DST, y)

    def backward_onednn(self, top, propagate_down, bottom):
        x = layouts.data(bottom[0])
        _, backward = self.plan(self.make, x.desc)
        dy = layouts.diff(top[0], x.desc)
        dx = layouts.mutable_diff(bottom[0], x.desc) if propagate_down[0] else self.borrow(x.desc, "dx")
        self.execute(
            backward, Arg.SRC, x, Arg.WEIGHTS, self.slope(), Arg.DIFF_DST, dy, Arg.DIFF_SRC, dx, Arg.DIFF_WEIGHTS,
            self.slope_diff,
        )  # fmt: skip
        self.add_to_diffs(self.slope_diff)
