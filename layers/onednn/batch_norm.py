"""BatchNorm by oneDNN; the running sums are computed as in Caffe."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.batch_norm import BatchNorm
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Arg, Flags
from minicaffe.onednn.tensors import Tensor, plain


@register("BatchNorm", engine="ONEDNN")
class OneDNNBatchNorm(OneDNNLayer, BatchNorm):
    __doc__ = BatchNorm.__doc__
    bf16_use = "passes"

    def expressible(self, bottom, top):
        if self.collective:  # a primitive takes the statistics of one batch
            return False
        return 2 <= bottom[0].num_axes <= 5 and self.eps > 0  # else channels that pad a layout would become 0 / 0

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self.flags = Flags.GLOBAL_STATS if self.use_global_stats else 0
        self.statistics = Tensor(plain((self.channels,))), Tensor(plain((self.channels,)))  # mean, variance

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
        forward = self.plan(self.make_forward, x.desc)
        if self.use_global_stats:
            self.load_statistics(self.statistics)
        else:
            self.input = layouts.keep(bottom[0], x)
        y = layouts.mutable_data(top[0], x.desc)
        self.execute(forward, Arg.SRC, x, Arg.DST, y, *self.shared_arguments())
        if not self.use_global_stats:
            self.remember(self.statistics, bottom[0].count)

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
        backward = self.plan(self.make_backward, x.desc)
        dy = layouts.diff(top[0], x.desc)
        dx = layouts.mutable_diff(bottom[0], x.desc)
        self.execute(backward, Arg.SRC, x, Arg.DIFF_DST, dy, Arg.DIFF_SRC, dx, *self.shared_arguments())
