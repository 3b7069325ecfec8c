"""Layers that follow one another, computed in one go.

    Convolution or InnerProduct, ReLU                       ReLU as a post-operation
    Convolution, BatchNorm, Scale, ReLU in TEST             statistics and scale folded into the weights, ReLU as above
    Convolution, BatchNorm, Scale, Eltwise, ReLU in TEST    the other summand as a post-operation, too
    BatchNorm, Scale, ReLU                                  one primitive forward, one backward
    Eltwise (sum of two), ReLU                              ReLU as a post-operation

Layers that work in place are drawn in: between them there is no blob that has a name, so whoever asks for a blob finds
what he would have found without this.  The one top that a residual sum leaves out is computed when asked for.  A net
runs its layers one by one when somebody watches them (callbacks, debug_info) or asks for a part of a chain only; and a
chain that ran as one is taken apart, by computing its forward pass again, when one of its layers is to run backward
alone.
"""

from __future__ import annotations

from minicaffe.layers.onednn.chain import Chain
from minicaffe.layers.onednn.folding import FoldedConvolution, FoldedSum
from minicaffe.layers.onednn.with_relu import ConvolutionReLU, InnerProductReLU, SumReLU
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Arg, Flags
from minicaffe.onednn.memory import Memory, plain, reorder


class FusedNorm(Chain):
    """BatchNorm with the Scale and the ReLU behind it."""

    types = ("BatchNorm", "Scale", "ReLU")

    def __init__(self, net, start, count):
        super().__init__(net, start, count)
        self.scale = self.by_type.get("Scale")
        self.input: Memory | None = None
        norm = self.first
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
            norm.load_statistics()
        if bottom is top:
            self.input, y = layouts.mutable_data_beside(top, x, self.input)
            x = self.input
        else:
            y = layouts.mutable_data(top, x.desc)
        shift = self.scale and len(self.scale.blobs) > 1 and layouts.data(self.scale.blobs[1]) or None
        norm.execute(
            forward, Arg.SRC, x, Arg.DST, y, Arg.WORKSPACE, notes, Arg.SHIFT, shift, *self.shared_arguments()
        )  # fmt: skip
        self.layout = x.desc
        if not norm.use_global_stats:
            norm.remember(bottom.count)

    def shared_arguments(self) -> tuple:
        """The arguments of both directions."""
        scale = self.scale and layouts.read(self.scale.blobs[0].data_memory, (self.first.channels,))
        return (Arg.SCALE, scale, *self.first.statistics())

    @property
    def runs_backward(self):
        return all(layer.chain is self for layer in self.layers)

    def backward_fused(self):
        (bottom,), (top,), norm = self.bottom, self.top, self.first
        x = self.input if bottom is top else layouts.data(bottom, self.layout)
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

    def unchain(self):
        super().unchain()
        (bottom,), (top,) = self.bottom, self.top
        if bottom is top:
            reorder(self.input, layouts.mutable_data(bottom, self.input.desc))
        before = [blob.read_data().copy() for blob in self.first.blobs]
        self.forward_apart()
        for blob, values in zip(self.first.blobs, before, strict=True):
            blob.data = values


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
