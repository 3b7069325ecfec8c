"""LRN by oneDNN: its own primitive where that is fast, else as a convolution over the channels.

oneDNN's LRN across channels is fast for local_size 5 only.  For other sizes the sum over neighbouring channels is a 1x1
convolution of x^2 with a banded matrix, and the other factors are post-operations.  The matrix B, which is symmetric,
holds `rate` near the diagonal:

    s  = k + B x^2                          y  = x s^-beta
    dx = dy s^-beta - x * B (2 beta dy x s^-(1 + beta))

The convolutions have no eltwise post-operation: oneDNN 3.2 never frees the code of one.
"""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.lrn import LRN
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.conversion import reorder, to_numpy
from minicaffe.onednn.library import Alg, Arg
from minicaffe.onednn.tensors import Tensor, any_layout, channels_last, of_array, plain

_FAST_SIZE = 5


@register("LRN", engine="ONEDNN")
class OneDNNLRN(OneDNNLayer, LRN):
    __doc__ = LRN.__doc__
    bf16_use = "passes"
    _matrix: Tensor | None = None
    _offset: Tensor | None = None

    def expressible(self, bottom, top):
        return bottom[0] is not top[0] and self.k > 0 and self.rate >= 0

    def gains_from_bf16(self):
        return not self.across or self.size == _FAST_SIZE

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.banded = self.across and self.size != _FAST_SIZE
        self.input: layouts.Kept | None = None  # x of the last forward pass

    def make(self, desc):
        """Forward and backward primitive for one layout."""
        alg, numbers = Alg.LRN_ACROSS if self.across else Alg.LRN_WITHIN, (self.size, self.alpha, self.beta, self.k)
        forward = primitives.lrn(alg, desc, desc, *numbers)
        return forward, primitives.lrn_backward(alg, desc, desc, desc, *numbers, forward)

    def make_band(self, desc):
        """The primitives of the formulas above for one layout."""
        return Band(desc, self.beta)

    def matrix(self, desc) -> Tensor:
        """The band B, as a convolution's weights in the layout `desc`."""
        if self._matrix is None or self._matrix.desc is not desc:
            self._matrix = Tensor(desc)
            reorder(of_array(self.rate * _ones_around_diagonal(desc.shape[0], self.size)), self._matrix)
        return self._matrix

    def offset(self, desc) -> Tensor:
        """k for each channel, as a convolution's bias."""
        if self._offset is None or self._offset.desc is not desc:
            self._offset = of_array(np.full(desc.shape, self.k, np.float32))
        return self._offset

    def forward_onednn(self, bottom, top):
        x = self.data(bottom[0])
        if x.desc.padded and self.across and not self.banded:  # oneDNN has no fast code for blocks with padding
            x = layouts.data(bottom[0], channels_last(bottom[0].shape, x.desc.dtype))
        plan = self.plan(self.make_band if self.banded else self.make, x.desc)
        self.input = layouts.keep(bottom[0], x)
        y = layouts.mutable_data(top[0], x.desc)
        if self.banded:
            plan.forward(self, x, y)
        else:
            forward, _ = plan
            self.execute(forward, Arg.SRC, x, Arg.DST, y, Arg.WORKSPACE, self.own(forward.desc(Arg.WORKSPACE), "notes"))

    def backward_onednn(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        if self.input is None or not self.input.current(bottom[0]):
            return self.backward_in_numpy(top, propagate_down, bottom)
        x = self.input.memory
        plan = self.plan(self.make_band if self.banded else self.make, x.desc)
        dy, dx = layouts.diff(top[0], x.desc), layouts.mutable_diff(bottom[0], x.desc)
        if self.banded:
            plan.backward(self, x, dy, dx)
        else:
            forward, backward = plan
            notes = self.own(forward.desc(Arg.WORKSPACE), "notes")
            self.execute(backward, Arg.SRC, x, Arg.DIFF_DST, dy, Arg.DIFF_SRC, dx, Arg.WORKSPACE, notes)

    def backward_in_numpy(self, top, propagate_down, bottom):
        """Compute the gradient by the numpy code, from the forward pass's scale: the bottom was written to since."""
        if self.input is not None:
            self.find_scale(to_numpy(self.input.memory))
        LRN.backward_cpu(self, top, propagate_down, bottom)


class Band:
    """The primitives of the formulas above for one layout; the layer owns s and the intermediate memory."""

    def __init__(self, desc, beta: float) -> None:
        times = ("binary", Alg.MUL, desc)
        self.square = primitives.eltwise(Alg.SQUARE, desc, desc)
        self.sum = _band(desc, bias=plain((desc.shape[1],)))
        self.sum_gradient = _band(desc, post=(times,))
        self.scale = _power(desc, -beta, times)
        self.shares = _power(desc, -1 - beta, times, times, _linear(-2 * beta))
        self.gather = _power(desc, -beta, times, ("binary", Alg.ADD, desc))

    def forward(self, layer: OneDNNLRN, x: Tensor, y: Tensor) -> None:
        """Write s and y."""
        s, work, execute = layer.own(x.desc, "s"), layer.borrow(x.desc, "work"), layer.execute
        matrix, offset = layer.matrix(self.sum.desc(Arg.WEIGHTS)), layer.offset(self.sum.desc(Arg.BIAS))
        execute(self.square, Arg.SRC, x, Arg.DST, work)
        execute(self.sum, Arg.SRC, work, Arg.WEIGHTS, matrix, Arg.BIAS, offset, Arg.DST, s)
        execute(self.scale, Arg.SRC, s, Arg.SRC_1, s, _post(3), x, Arg.DST, y)

    def backward(self, layer: OneDNNLRN, x: Tensor, dy: Tensor, dx: Tensor) -> None:
        """Write dx; it may be dy's memory."""
        s, work, execute = layer.own(x.desc, "s"), layer.borrow(x.desc, "work"), layer.execute
        sums, matrix = layer.borrow(x.desc, "sums"), layer.matrix(self.sum_gradient.desc(Arg.WEIGHTS))
        execute(self.shares, Arg.SRC, s, Arg.SRC_1, s, _post(3), dy, _post(4), x, Arg.DST, work)
        execute(self.sum_gradient, Arg.SRC, work, Arg.WEIGHTS, matrix, _post(0), x, Arg.DST, sums)
        execute(self.gather, Arg.SRC, s, Arg.SRC_1, s, _post(3), dy, _post(4), sums, Arg.DST, dx)


def _post(index: int) -> int:
    """The argument (a sum of `Arg`) of the post-operation `index`, a binary one."""
    return Arg.POST_OP * (index + 1) | Arg.SRC_1


def _eltwise(alg: int, alpha: float = 0.0, beta: float = 0.0) -> tuple:
    return ("eltwise", alg, alpha, beta)


def _linear(scale: float, shift: float = 0.0) -> tuple:
    return _eltwise(Alg.LINEAR, scale, shift)


def _power(desc, exponent: float, *post: tuple):
    """s^exponent = exp(exponent * (log(2 s) - log(2))), then `post`, as post-operations of s + s."""
    power = _eltwise(Alg.LOG), _linear(exponent, -exponent * math.log(2)), _eltwise(Alg.EXP)
    return primitives.binary(Alg.ADD, desc, desc, desc, post=(*power, *post))


def _ones_around_diagonal(channels: int, size: int) -> np.ndarray:
    row = np.arange(channels)
    band = np.abs(row[:, None] - row) <= size // 2
    return band.astype(np.float32).reshape(channels, channels, 1, 1)


def _band(desc, bias=None, post: tuple = ()):
    """The 1x1 convolution that sums over neighbouring channels."""
    channels = desc.shape[1]
    geometry = (1, 1), (0, 0), (0, 0), (0, 0)
    return primitives.convolution(desc, any_layout((channels, channels, 1, 1)), bias, desc, *geometry, post=post)
