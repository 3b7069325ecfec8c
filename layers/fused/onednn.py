"""Layers that follow one another, computed in one go.

    Convolution or InnerProduct, ReLU                       ReLU as a post-operation
    Convolution, BatchNorm, Scale, ReLU in TEST             statistics and scale folded into the weights, ReLU as above
    Convolution, BatchNorm, Scale, Eltwise, ReLU in TEST    the other summand as a post-operation, too
    BatchNorm, Scale, ReLU                                  one primitive forward, one backward
    Eltwise (sum of two), ReLU                              ReLU as a post-operation

Only in-place followers are fused: no named blob lies between them, so every blob holds what it would without fusion.
The one top that a residual sum leaves out is computed when it is read, from an input that is kept until then.  A net
runs its layers one by one when callbacks or debug_info watch them, or when only a part of a chain is asked for.  A
chain that ran forward as one is taken apart (`unchain`) when one of its layers runs backward alone.
"""

from __future__ import annotations

from minicaffe.core.fusion import add_finder
from minicaffe.layers.fused.onednn_chain import Chain
from minicaffe.layers.fused.onednn_folding import FoldedConvolution, FoldedSum
from minicaffe.layers.fused.onednn_relu import ConvolutionReLU, InnerProductReLU, SumReLU
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Alg, Arg, Flags
from minicaffe.onednn.tensors import Tensor, plain


class FusedNorm(Chain):
    """BatchNorm with the Scale and the ReLU behind it."""

    types = ("BatchNorm", "Scale", "ReLU")

    def __init__(self, net, start, count):
        super().__init__(net, start, count)
        self.scale = self.by_type.get("Scale")
        self.input: layouts.Kept | None = None
        self.output: object = None  # the version of the top at the end of the pass
        self.whole = self.bottom == self.top and self.wanted[0]  # whether the top's diff ends as the bottom's
        norm = self.first
        self.statistics = Tensor(plain((norm.channels,))), Tensor(plain((norm.channels,)))  # mean, variance
        self.flags = (Flags.GLOBAL_STATS if norm.use_global_stats else 0) | (Flags.RELU if self.relu else 0)
        if self.scale:
            self.flags |= Flags.SCALE | (Flags.SHIFT if len(self.scale.blobs) > 1 else 0)

    @classmethod
    def fits(cls, net, layers):
        return all(layer.negative_slope == 0 for layer in layers if layer.type == "ReLU")

    def make(self, desc):
        """Forward and backward primitive for one layout."""
        eps = self.first.eps
        forward = primitives.batch_normalization(desc, desc, eps, self.flags)
        return forward, primitives.batch_normalization_backward(desc, desc, desc, eps, self.flags, forward)

    def forward_fused(self):
        (bottom,), (top,), norm = self.bottom, self.top, self.first
        x = layouts.data(bottom)
        forward, _ = norm.plan(self.make, x.desc)
        notes = norm.own(forward.desc(Arg.WORKSPACE), "notes")
        if norm.use_global_stats:
            norm.load_statistics(self.statistics)
        self.input = layouts.keep(bottom, x)
        y = layouts.mutable_data(top, x.desc)
        shift = self.scale and len(self.scale.blobs) > 1 and layouts.data(self.scale.blobs[1]) or None
        norm.execute(
            forward, Arg.SRC, self.input.memory, Arg.DST, y, Arg.WORKSPACE, notes, Arg.SHIFT, shift,
            *self.shared_arguments(),
        )  # fmt: skip
        if not norm.use_global_stats:
            norm.remember(self.statistics, bottom.count)

    def finish(self):
        self.output = self.top[0].data_memory.version

    def shared_arguments(self) -> tuple:
        """The arguments of both directions."""
        scale = self.scale and layouts.read(self.scale.blobs[0].data_memory, (self.first.channels,))
        mean, variance = self.statistics
        return (Arg.SCALE, scale, Arg.MEAN, mean, Arg.VARIANCE, variance)

    @property
    def runs_backward(self):
        # the ReLU's gradient goes by what its top holds now, the primitive's by what it held after the forward pass
        return self.fused and (self.relu is None or self.top[0].data_memory.version is self.output)

    def backward_fused(self):
        (bottom,), (top,), norm = self.bottom, self.top, self.first
        x = self.input.memory
        forward, backward = norm.plan(self.make, x.desc)
        notes = norm.own(forward.desc(Arg.WORKSPACE), "notes")
        dy = layouts.diff(top, x.desc)
        dx = layouts.mutable_diff(bottom, x.desc) if self.wanted[0] else norm.own(x.desc)
        diffs = [norm.own(plain((norm.channels,)), use) for use in ("scale", "shift")]
        args = [Arg.DIFF_SCALE, diffs[0] if self.scale else None]
        args += [Arg.DIFF_SHIFT, diffs[1] if self.scale and len(self.scale.blobs) > 1 else None]
        norm.execute(
            backward, Arg.SRC, x, Arg.DIFF_DST, dy, Arg.DIFF_SRC, dx, Arg.WORKSPACE, notes, *args,
            *self.shared_arguments(),
        )  # fmt: skip
        if self.scale:
            for blob, diff, wanted in zip(self.scale.blobs, diffs, self.scale.param_propagate_down, strict=False):
                if wanted:
                    layouts.add_to_diff(blob, diff)
        if not self.whole:
            self.leave_diff(dy.desc)

    def leave_diff(self, desc):
        """Bring the top's diff to what ReLU and Scale in place leave there: dy where y > 0, times the scale."""
        (top,), norm = self.top, self.first
        dy, y = layouts.mutable_diff(top, desc), layouts.data(top, desc)
        if self.relu:
            gradient = norm.plan(_relu_gradient, desc)
            norm.execute(gradient, Arg.DST, y, Arg.DIFF_DST, dy, Arg.DIFF_SRC, dy)
        if self.scale:
            times = norm.plan(_times_channels, desc)
            scale = layouts.read(self.scale.blobs[0].data_memory, times.desc(Arg.SRC_1).shape)
            norm.execute(times, Arg.SRC, dy, Arg.SRC_1, scale, Arg.DST, dy)

    def restore(self, layer):
        norm, x = self.first, self.input.memory
        if layer is norm:
            norm.input = self.input
            for own, memory in zip(norm.statistics, self.statistics, strict=True):
                own.array()[:] = memory.array()
        elif layer is self.scale and layer.kept_blobs:
            kept, forward = layer.kept_blobs.bottoms[0], norm.plan(norm.make_forward, x.desc)
            kept.reshape(self.top[0].shape)
            y, (mean, variance) = layouts.mutable_data(kept, x.desc), self.statistics
            norm.execute(forward, Arg.SRC, x, Arg.DST, y, Arg.MEAN, mean, Arg.VARIANCE, variance)


def _relu_gradient(desc):
    """dx = dy where y > 0, by the output y."""
    hint = primitives.eltwise(Alg.RELU_FROM_DST, desc, desc, 0.0, 0.0)
    return primitives.eltwise_backward(Alg.RELU_FROM_DST, desc, desc, desc, 0.0, 0.0, hint)


def _times_channels(desc):
    """x times one number for each channel."""
    channels = plain((1, desc.shape[1]) + (1,) * (len(desc.shape) - 2))
    return primitives.binary(Alg.MUL, desc, channels, desc)


_KINDS = (FoldedSum, FoldedConvolution, ConvolutionReLU, InnerProductReLU, SumReLU, FusedNorm)


def find_chains(net) -> list[Chain]:
    """The chains of a net, in order; each layer is in one at most."""
    chains, start = [], 0
    while start < len(net.layers):
        chain = next(filter(None, (kind.find(net, start) for kind in _KINDS)), None)
        if chain:
            chains.append(chain)
        start = chain.end + 1 if chain else start + 1
    return chains


add_finder("ONEDNN", find_chains)
