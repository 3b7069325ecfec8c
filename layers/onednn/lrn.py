"""LRN by oneDNN: its own primitive where that is fast, else as a convolution over the channels.

oneDNN's LRN across channels is fast for local_size 5 only.  For other sizes the sum over neighbouring channels is a 1x1
convolution of x^2 with a banded matrix of ones, and the rest rides along as post-operations.  With L = log(scale) and B
the band (its own transpose):

    L  = log(k + rate * B x^2)              y  = x exp(-beta L)
    dx = dy exp(-beta L) - 2 rate beta x * B (dy x exp(-(1 + beta) L))
"""

from __future__ import annotations

import numpy as np

from minicaffe.layer import register
from minicaffe.layers.lrn import LRN
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Alg, Arg
from minicaffe.onednn.memory import Memory, any_layout, of_array, reorder

_FAST_SIZE = 5


@register("LRN", engine="ONEDNN")
class OneDNNLRN(OneDNNLayer, LRN):
    __doc__ = LRN.__doc__

    def expressible(self, bottom, top):
        return bottom[0] is not top[0] and self.k > 0 and self.rate >= 0

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.banded = self.across and self.size != _FAST_SIZE
        self.input: layouts.Kept | None = None  # x of the last forward pass

    def make(self, desc):
        """Forward and backward primitive, and the forward's notes, for one layout."""
        if self.banded:
            return Band(self, desc)
        alg, numbers = Alg.LRN_ACROSS if self.across else Alg.LRN_WITHIN, (self.size, self.alpha, self.beta, self.k)
        forward = primitives.lrn(alg, desc, desc, *numbers)
        notes = forward.desc(Arg.WORKSPACE)
        backward = primitives.lrn_backward(alg, desc, desc, desc, *numbers, forward)
        return forward, backward, notes and Memory(notes)

    def forward_onednn(self, bottom, top):
        x = layouts.data(bottom[0])
        plan = self.plan(self.make, x.desc)
        self.input = layouts.keep(bottom[0], x)
        y = layouts.mutable_data(top[0], x.desc)
        if self.banded:
            plan.forward(x, y)
        else:
            self.execute(plan[0], Arg.SRC, x, Arg.DST, y, Arg.WORKSPACE, plan[2])

    def backward_onednn(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        if self.input is None or not self.input.current(bottom[0]):
            return self.backward_apart(top, propagate_down, bottom)
        x = self.input.memory
        plan = self.plan(self.make, x.desc)
        dy, dx = layouts.diff(top[0], x.desc), layouts.mutable_diff(bottom[0], x.desc)
        if self.banded:
            plan.backward(x, dy, dx)
        else:
            self.execute(plan[1], Arg.SRC, x, Arg.DIFF_DST, dy, Arg.DIFF_SRC, dx, Arg.WORKSPACE, plan[2])

    def backward_apart(self, top, propagate_down, bottom):
        """The gradient, by the numpy code and the forward pass's scale, if the bottom was written to since."""
        if self.input is not None:
            self.find_scale(self.input.memory.numpy())
        LRN.backward_cpu(self, top, propagate_down, bottom)


class Band:
    """The formulas above for one layer and layout."""

    def __init__(self, layer: OneDNNLRN, desc) -> None:
        self.execute, size, rate, beta = layer.execute, layer.size, layer.rate, layer.beta
        self.log, self.work = Memory(desc), Memory(desc)
        self.sums: Memory | None = None  # made when something runs backward
        times = ("binary", Alg.MUL, desc)
        self.square = primitives.eltwise(Alg.SQUARE, desc, desc)
        self.sum_to_log = _band(desc, size, (_linear(rate, layer.k), _eltwise(Alg.LOG)))
        self.sum_gradient = _band(desc, size, (_linear(-2 * rate * beta), times))
        self.scale = _power(desc, -beta, times)
        self.shares = _power(desc, -1 - beta, times, times)
        self.gather = _power(desc, -beta, times, ("binary", Alg.ADD, desc))
        self.matrix = Memory(self.sum_to_log.desc(Arg.WEIGHTS))
        reorder(of_array(_ones_around_diagonal(desc.shape[1], size)), self.matrix)

    def forward(self, x: Memory, y: Memory) -> None:
        """Write L and y."""
        log, work = self.log, self.work
        self.execute(self.square, Arg.SRC, x, Arg.DST, work)
        self.execute(self.sum_to_log, Arg.SRC, work, Arg.WEIGHTS, self.matrix, Arg.DST, log)
        self.execute(self.scale, Arg.SRC, log, Arg.SRC_1, log, _post(2), x, Arg.DST, y)

    def backward(self, x: Memory, dy: Memory, dx: Memory) -> None:
        """Write dx; it may be dy's memory."""
        log, work = self.log, self.work
        self.sums = sums = self.sums or Memory(work.desc)
        self.execute(self.shares, Arg.SRC, log, Arg.SRC_1, log, _post(2), dy, _post(3), x, Arg.DST, work)
        self.execute(self.sum_gradient, Arg.SRC, work, Arg.WEIGHTS, self.matrix, _post(1), x, Arg.DST, sums)
        self.execute(self.gather, Arg.SRC, log, Arg.SRC_1, log, _post(2), dy, _post(3), sums, Arg.DST, dx)


def _post(index: int) -> int:
    """The argument of the post-operation `index`, a binary one."""
    return Arg.POST_OP * (index + 1) | Arg.SRC_1


def _eltwise(alg: int, alpha: float = 0.0, beta: float = 0.0) -> tuple:
    return ("eltwise", alg, alpha, beta)


def _linear(scale: float, shift: float = 0.0) -> tuple:
    return _eltwise(Alg.LINEAR, scale, shift)


def _power(desc, exponent: float, *post: tuple):
    """exp(exponent * L) and what follows, as post-operations of L + L: a product with a number would be slow."""
    return primitives.binary(Alg.ADD, desc, desc, desc, post=(_linear(exponent / 2), _eltwise(Alg.EXP), *post))


def _ones_around_diagonal(channels: int, size: int) -> np.ndarray:
    row = np.arange(channels)
    band = np.abs(row[:, None] - row) <= size // 2
    return band.astype(np.float32).reshape(channels, channels, 1, 1)


def _band(desc, size: int, post: tuple):
    """The 1x1 convolution that sums over neighbouring channels."""
    channels = desc.shape[1]
    geometry = (1, 1), (0, 0), (0, 0), (0, 0)
    return primitives.convolution(desc, any_layout((channels, channels, 1, 1)), None, desc, *geometry, post=post)
