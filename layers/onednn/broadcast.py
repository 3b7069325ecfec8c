"""Bias, Axpy, and the form of Scale with two bottoms, by oneDNN's binary primitive.

The operand that is broadcast over the places is read in the layout of the bottom: in another one, oneDNN 3.2 has only
reference code, 100 times as slow.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.layers.bias import Bias
from minicaffe.layers.extensions.axpy import Axpy
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.conversion import reorder, to_numpy
from minicaffe.onednn.library import Alg, Arg
from minicaffe.onednn.tensors import Tensor, like, plain


class OneDNNBroadcast(OneDNNLayer):
    """Combines a bottom with an operand of the shape `spread`: that of the bottom, or with 1 for all spatial axes."""

    spread: tuple[int, ...]

    def can_spread(self, shape: tuple[int, ...]) -> bool:
        """Whether oneDNN has fast code for the operand, with a bottom of this shape."""
        over_places = self.spread[1:] == (*shape[1:2], *(1 for _ in shape[2:]))
        return 2 <= len(shape) <= 5 and (over_places or self.spread == shape)

    def read(self, blob: Blob, values: Callable[..., Tensor] = layouts.data) -> Tensor:
        """A blob's data or diff in its current layout if an operand can have the same one, else in row-major order."""
        x = values(blob)
        return x if like(x.desc, x.desc.shape) is x.desc else values(blob, plain(blob.shape))

    def operand(self, blob: Blob, desc) -> Tensor:
        """An operand's values, in the layout that goes with `desc`."""
        return layouts.read(blob.data_memory, self.spread, like(desc, self.spread))

    def make_binary(self, alg, desc, other):
        return primitives.binary(alg, desc, other, desc)

    def combine(self, alg: int, a: Tensor, b: Tensor, result: Tensor) -> None:
        """result = a op b, where b may be an operand; the result may be a."""
        self.execute(self.plan(self.make_binary, alg, a.desc, b.desc), Arg.SRC, a, Arg.SRC_1, b, Arg.DST, result)

    def make_means(self, desc):
        kernel = desc.shape[2:]
        ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
        means = like(desc, (*desc.shape[:2], *ones))
        return primitives.pooling(Alg.POOLING_AVG_WITHOUT_PADDING, desc, means, ones, kernel, zeros, zeros, False)

    def sums(self, x: Tensor) -> np.ndarray:
        """The sums of x over all axes that the operand does not cover, as a flat array."""
        shape = x.desc.shape
        places = 1 if self.spread == shape else math.prod(shape[2:])
        if places > 1:
            pool = self.plan(self.make_means, x.desc)
            means = self.own(pool.desc(Arg.DST), "means")
            self.execute(pool, Arg.SRC, x, Arg.DST, means)
            x = means
        sums = to_numpy(x) * np.float32(places)
        return (sums.sum(0) if self.spread[0] < shape[0] else sums).reshape(-1)

    def sums_of_products(self, a: Tensor, b: Tensor) -> np.ndarray:
        """`sums` of a * b."""
        product = self.borrow(a.desc, "product")
        self.combine(Alg.MUL, a, b, product)
        return self.sums(product)


@register("Bias", engine="ONEDNN")
class OneDNNBias(OneDNNBroadcast, Bias):
    __doc__ = Bias.__doc__
    reads_blobs_only = True

    def expressible(self, bottom, top):
        return self.can_spread(bottom[0].shape)

    def forward_onednn(self, bottom, top):
        x = self.read(bottom[0])
        b = self.operand(self.blobs[0] if self.learned else bottom[1], x.desc)
        self.combine(Alg.ADD, x, b, layouts.mutable_data(top[0], x.desc))

    def backward_onednn(self, top, propagate_down, bottom):
        dy = self.read(top[0], layouts.diff)
        if self.learned and self.param_propagate_down[0]:
            self.blobs[0].diff.reshape(-1)[:] += self.sums(dy)
        elif not self.learned and propagate_down[1]:
            bottom[1].diff.reshape(-1)[:] = self.sums(dy)
        if propagate_down[0] and bottom[0] is not top[0]:
            reorder(dy, layouts.mutable_diff(bottom[0], dy.desc))


@register("Axpy", engine="ONEDNN")
class OneDNNAxpy(OneDNNBroadcast, Axpy):
    __doc__ = Axpy.__doc__
    reads_blobs_only = True

    def expressible(self, bottom, top):
        shape = bottom[1].shape
        self.spread = (*shape[:2], *(1 for _ in shape[2:]))
        return self.can_spread(shape)

    def make_forward(self, desc):
        return primitives.binary(Alg.MUL, desc, like(desc, self.spread), desc, post=(("binary", Alg.ADD, desc),))

    def forward_onednn(self, bottom, top):
        x = self.read(bottom[1])
        a, y = self.operand(bottom[0], x.desc), layouts.data(bottom[2], x.desc)
        z = layouts.mutable_data(top[0], x.desc)
        added = Arg.POST_OP | Arg.SRC_1
        self.execute(self.plan(self.make_forward, x.desc), Arg.SRC, x, Arg.SRC_1, a, added, y, Arg.DST, z)

    def backward_onednn(self, top, propagate_down, bottom):
        x = self.read(bottom[1])
        dz = layouts.diff(top[0], x.desc)
        if propagate_down[0]:
            bottom[0].diff.reshape(-1)[:] = self.sums_of_products(dz, x)
        if propagate_down[1]:
            self.combine(Alg.MUL, dz, self.operand(bottom[0], x.desc), layouts.mutable_diff(bottom[1], x.desc))
        if propagate_down[2]:
            reorder(dz, layouts.mutable_diff(bottom[2], x.desc))
