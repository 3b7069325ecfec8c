"""BatchNorm by oneDNN; the running sums are computed as in Caffe."""

from __future__ import annotations

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.batch_norm import BatchNorm
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.layers.shared.exchange import Exchange
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Alg, Arg, Flags
from minicaffe.onednn.tensors import Tensor, of_array, plain

_WITH_SUMS = Flags.GLOBAL_STATS | Flags.SCALE | Flags.SHIFT  #: a backward pass computes the sums of dy and dy * y


@register("BatchNorm", engine="ONEDNN")
class OneDNNBatchNorm(OneDNNLayer, BatchNorm):
    __doc__ = BatchNorm.__doc__
    bf16_use = "passes"

    def expressible(self, bottom, top):
        return 2 <= bottom[0].num_axes <= 5 and self.eps > 0  # else channels that pad a layout would become 0 / 0

    def gains_from_bf16(self):
        return not self.collective

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self.flags = Flags.GLOBAL_STATS if self.use_global_stats or self.collective else 0
        self.statistics = Tensor(plain((self.channels,))), Tensor(plain((self.channels,)))  # mean, variance
        self.ones = of_array(np.ones(self.channels, np.float32)) if self.collective else None

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.input: layouts.Kept | None = None  # x, which the gradient needs unless the statistics are global

    def make_forward(self, desc):
        return primitives.batch_normalization(desc, desc, self.eps, self.flags)

    def make_backward(self, desc):
        return primitives.batch_normalization_backward(desc, desc, desc, self.eps, self.flags, self.make_forward(desc))

    def shared_arguments(self) -> tuple:
        """The arguments of both directions."""
        mean, variance = self.statistics
        return Arg.MEAN, mean, Arg.VARIANCE, variance

    def forward_onednn(self, bottom, top):
        x = self.data_in_vectors(bottom[0])
        forward, count = self.plan(self.make_forward, x.desc), bottom[0].count
        own = self.plan(self.make_own, x.desc) if self.exchange is not None else None
        if self.use_global_stats:
            self.load_statistics(self.statistics)
        else:
            self.input = layouts.keep(bottom[0], x)
        y = layouts.mutable_data(top[0], x.desc)
        if self.exchange is not None and self.input is not None:
            x = self.input.memory  # in place, what was read is overwritten by the first of two primitives
            self.execute(own, Arg.SRC, x, Arg.DST, y, *self.shared_arguments())
            count = self.merge_statistics(self.exchange, count)
        self.execute(forward, Arg.SRC, x, Arg.DST, y, *self.shared_arguments())
        if not self.use_global_stats:
            self.remember(self.statistics, count)

    def load_statistics(self, statistics):
        """Write mean and variance, computed from the running sums, to two tensors."""
        for values, memory in zip(self.stored_statistics(), statistics):
            memory.array()[:] = values

    def remember(self, statistics, count):
        """Add a batch's mean and variance, over `count` numbers in all channels, to the running sums."""
        mean, variance = statistics
        self._remember(mean.array(), variance.array(), count // self.channels)

    def backward_onednn(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        x = self.input.memory if self.input else self.data_in_vectors(bottom[0])
        if self.exchange is not None:
            self.backward_of_ranks(self.exchange, x, top[0], bottom[0])
            return
        backward = self.plan(self.make_backward, x.desc)
        dy = layouts.diff(top[0], x.desc)
        dx = layouts.mutable_diff(bottom[0], x.desc)
        self.execute(backward, Arg.SRC, x, Arg.DIFF_DST, dy, Arg.DIFF_SRC, dx, *self.shared_arguments())

    # -- with the statistics of all ranks' batches -------------------------------------------------------------------

    def make_own(self, desc):
        """The primitive that computes the statistics of this rank's batch."""
        return primitives.batch_normalization(desc, desc, self.eps)

    def make_scaling(self, desc):
        """The primitive y * scale + shift, of x."""
        return primitives.batch_normalization(desc, desc, self.eps, _WITH_SUMS)

    def make_sums(self, desc):
        """The primitive dx = scale * dy / deviation, with the sums of dy and dy * y."""
        hint = self.make_scaling(desc)
        return primitives.batch_normalization_backward(desc, desc, desc, self.eps, _WITH_SUMS, hint)

    def merge_statistics(self, exchange: Exchange, count: int) -> int:
        """Replace the statistics of this rank's `count` numbers by those of all ranks'; return the number of these."""
        mean, variance = (memory.array() for memory in self.statistics)
        places = count // self.channels
        total, mean[:], squares = exchange.statistics(places, mean, variance * places)
        variance[:] = squares / total
        return total * self.channels

    def backward_of_ranks(self, exchange: Exchange, x, top, bottom):
        """dx = dy / deviation - (y * mean_dy_y + mean_dy) / deviation"""
        sums, scaling, adding = (self.plan(make, x.desc) for make in (self.make_sums, self.make_scaling, _sum_of_two))
        dy, dx, term = layouts.diff(top, x.desc), layouts.mutable_diff(bottom, x.desc), self.borrow(x.desc, "term")
        scale, shift = (self.own(plain((self.channels,)), use) for use in ("scale", "shift"))
        self.execute(
            sums, Arg.SRC, x, Arg.DIFF_DST, dy, Arg.DIFF_SRC, dx, Arg.SCALE, self.ones, Arg.DIFF_SCALE, scale,
            Arg.DIFF_SHIFT, shift, *self.shared_arguments(),
        )  # fmt: skip
        count, totals = exchange.sums(bottom.count // self.channels, shift.array(), scale.array())
        deviation = np.sqrt(self.statistics[1].array() + self.eps)
        for memory, total in zip((shift, scale), totals, strict=True):
            memory.array()[:] = -total / count / deviation
        self.execute(
            scaling, Arg.SRC, x, Arg.DST, term, Arg.SCALE, scale, Arg.SHIFT, shift, *self.shared_arguments()
        )  # fmt: skip
        self.execute(adding, Arg.SRC, dx, Arg.SRC_1, term, Arg.DST, dx)


def _sum_of_two(desc):
    """The primitive a + b."""
    return primitives.binary(Alg.ADD, desc, desc, desc)
