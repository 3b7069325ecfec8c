"""Scale over channels by oneDNN's batch normalisation: with mean 0 and variance + epsilon = 1 it is y = s x + b.

With two bottoms it is a binary primitive.

Its backward pass computes the gradients of x, s and b in one pass over memory.  Variance and epsilon are 1/2 each:
channels that pad a layout have variance 0, and an epsilon of 0 would make their zeros NaN, which the next convolution
reads.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.onednn.broadcast import OneDNNBroadcast
from minicaffe.layers.scale import Scale
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Alg, Arg, Flags
from minicaffe.onednn.tensors import Tensor, of_array, plain

_HALF = 0.5


@register("Scale", engine="ONEDNN")
class OneDNNScale(OneDNNBroadcast, Scale):
    __doc__ = Scale.__doc__
    bf16_use = "passes"

    def gains_from_bf16(self):
        return self.learned

    def expressible(self, bottom, top):
        shape = bottom[0].shape
        if self.limited:
            return False
        if not self.learned:
            return self.can_spread(shape)
        return 2 <= len(shape) <= 5 and self.outer == shape[0] and self.covered == shape[1]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if not (self.native and self.learned):
            return
        channels = (self.covered,)
        self.zeros, self.halves = Tensor(plain(channels)), of_array(np.full(channels, _HALF, np.float32))
        self.diffs = Tensor(plain(channels)), Tensor(plain(channels))
        self.shift = self.bias_index is not None
        self.flags = Flags.GLOBAL_STATS | Flags.SCALE | (Flags.SHIFT if self.shift else 0)

    def make_forward(self, desc):
        return primitives.batch_normalization(desc, desc, _HALF, self.flags)

    def make_backward(self, desc):
        return primitives.batch_normalization_backward(desc, desc, desc, _HALF, self.flags, self.make_forward(desc))

    def operands(self) -> tuple:
        """The arguments of both directions."""
        scale = layouts.read(self.blobs[0].data_memory, (self.covered,))
        return Arg.MEAN, self.zeros, Arg.VARIANCE, self.halves, Arg.SCALE, scale

    def forward_of_two(self, bottom, top):
        """Multiply the bottoms, and add the bias if there is one."""
        x = self.read(bottom[0])
        y = layouts.mutable_data(top[0], x.desc)
        self.combine(Alg.MUL, x, self.operand(bottom[1], x.desc), y)
        if self.bias_index is not None:
            self.combine(Alg.ADD, y, self.operand(self.blobs[0], x.desc), y)

    def backward_of_two(self, top, propagate_down, bottom):
        """Compute the gradients of both bottoms and of the bias."""
        x = self.read(bottom[0])
        dy = layouts.diff(top[0], x.desc)
        if self.bias_index is not None and self.param_propagate_down[0]:
            self.blobs[0].diff.reshape(-1)[:] += self.sums(dy)
        if propagate_down[1]:
            bottom[1].diff.reshape(-1)[:] = self.sums_of_products(dy, x)
        if propagate_down[0]:
            self.combine(Alg.MUL, dy, self.operand(bottom[1], x.desc), layouts.mutable_diff(bottom[0], x.desc))

    def forward_onednn(self, bottom, top):
        if not self.learned:
            return self.forward_of_two(bottom, top)
        x = self.data_in_vectors(bottom[0])
        forward = self.plan(self.make_forward, x.desc)
        y = layouts.mutable_data(top[0], x.desc)
        shift = layouts.data(self.blobs[1]) if self.shift else None
        self.execute(forward, Arg.SRC, x, Arg.DST, y, Arg.SHIFT, shift, *self.operands())

    def backward_onednn(self, top, propagate_down, bottom):
        if not self.learned:
            return self.backward_of_two(top, propagate_down, bottom)
        x = self.data_in_vectors(bottom[0])
        backward = self.plan(self.make_backward, x.desc)
        dy = layouts.diff(top[0], x.desc)
        dx = layouts.mutable_diff(bottom[0], x.desc) if propagate_down[0] else self.borrow(x.desc, "dx")
        ds, db = self.diffs
        self.execute(
            backward, Arg.SRC, x, Arg.DIFF_DST, dy, Arg.DIFF_SRC, dx, *self.operands(), Arg.DIFF_SCALE, ds,
            Arg.DIFF_SHIFT, db if self.shift else None,
        )  # fmt: skip
        self.add_to_diffs(ds, db)
