"""In TEST: BatchNorm and Scale folded into the convolution before them, the residual sum behind them added to it."""

from __future__ import annotations

import functools

import numpy as np

from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.layers.onednn.chain import Chain, in_place_chain
from minicaffe.layers.onednn.with_relu import ConvolutionReLU, SumReLU
from minicaffe.onednn import layouts
from minicaffe.onednn.library import Alg, Arg, Unsupported
from minicaffe.onednn.memory import Memory, of_array, plain, reorder


class FoldedConvolution(Chain):
    """In TEST: y = s (w * x + b - mean) / deviation + t is a convolution with other weights and another bias.

    The convolution's own values are never computed.  Backward needs them for the gradient of s alone, and computes them
    from the parameters and the bottom; after its first backward pass a net is folded no more (`Net.backward_from_to`).
    """

    types = ("Convolution", "BatchNorm", "Scale", "ReLU")

    def __init__(self, net, start, count):
        super().__init__(net, start, count)
        self.norm, self.scale = self.by_type["BatchNorm"], self.by_type.get("Scale")
        self.weights: Memory | None = None
        self.bias: Memory | None = None
        self.versions: list[object] = []
        self.needs_backward = any(net.layer_need_backward[start : start + count])
        self.input: object = None  # the version of the bottom, or its values if a script holds a view of it

    @classmethod
    def fits(cls, net, layers):
        return "BatchNorm" in (layer.type for layer in layers) and net.folds and layers[1].use_global_stats and \
            ConvolutionReLU.fits(net, layers)  # fmt: skip

    def forward_fused(self):
        (bottom,), (top,) = self.bottom, self.top
        conv = self.first.plan(self.first.make_forward, bottom.shape, top.shape, True, self.post(), False)
        self.fold_if_changed(conv.desc(Arg.WEIGHTS))
        self.remember(conv)
        self.first.convolve(conv, bottom, top, self.weights, self.bias)

    def fold_if_changed(self, desc) -> None:
        """Compute weights, in the layout `desc`, and bias, unless nothing they depend on was written to."""
        versions = self.versions_of_parameters()
        if versions != self.versions or self.weights.desc is not desc:
            self.norm.load_statistics()
            self.weights, self.bias = self.fold(desc, self.scale)
            self.versions = versions

    def versions_of_parameters(self) -> list[object]:
        return [layouts.version(blob) for layer in self.layers for blob in layer.blobs]

    def fold(self, desc, scale) -> tuple[Memory, Memory]:
        """Weights, in the layout `desc`, and bias, with `scale` (or None) folded in.

        In new memory: a deferred top may still be computed from the old ones.
        """
        conv, norm = self.first, self.norm
        factor = 1 / np.sqrt(norm.batch_variance.array() + np.float32(norm.eps))
        shift = (conv.blobs[1].read_data() if conv.bias_term else 0) - norm.batch_mean.array()
        if scale:
            factor = factor * scale.blobs[0].read_data().reshape(-1)
        shift = shift * factor
        if scale and scale.shift:
            shift += scale.blobs[1].read_data().reshape(-1)
        weights = conv.blobs[0].read_data()
        folded, bias = Memory(desc), Memory(plain((conv.num_output,)))
        reorder(of_array((weights * factor.reshape(-1, *[1] * (weights.ndim - 1))).reshape(conv.grouped)), folded)
        bias.array()[:] = shift
        return folded, bias

    def remember(self, conv) -> None:
        """Note what the bottom holds, should `unchain` need it."""
        if self.needs_backward:
            (bottom,) = self.bottom
            x = layouts.data(bottom, conv.desc(Arg.SRC))
            self.input = layouts.keep(bottom, x) if bottom.data_memory.held else layouts.version(bottom)

    def unchain(self):
        if self.scale and self.scale.param_propagate_down[0]:
            self.scale.input = self.normalized()
        super().unchain()

    def normalized(self) -> layouts.Kept:
        """What the Scale found at its bottom: the BatchNorm's output in the last forward pass."""
        (bottom,), (top,) = self.bottom, self.top
        kept = isinstance(self.input, layouts.Kept)
        unchanged = self.input.current(bottom) if kept else self.input is layouts.version(bottom)
        if not unchanged or self.versions != self.versions_of_parameters():
            raise self.first.error("its bottom or its parameters were written to since forward: run forward again")
        conv = self.first.plan(self.first.make_forward, bottom.shape, top.shape, True, (), False)
        weights, bias = self.fold(conv.desc(Arg.WEIGHTS), None)
        x, y = layouts.data(bottom, conv.desc(Arg.SRC)), Memory(conv.desc(Arg.DST))
        self.first.execute(conv, Arg.SRC, x, Arg.WEIGHTS, weights, Arg.BIAS, bias, Arg.DST, y)
        return layouts.Kept(y, None)


class FoldedSum(FoldedConvolution):
    """A folded convolution, the Eltwise sum of its top and another blob, and perhaps ReLU: the end of a residual block.

    The convolution's own top is not needed for the sum and is computed when it is read.
    """

    @classmethod
    def find(cls, net, start):
        folded = in_place_chain(FoldedConvolution, net, start)
        if folded is None or folded.relu or folded.end + 1 == len(net.layers):
            return None
        end = folded.end + 1
        layer, bottoms, (inner,) = net.layers[end], net.bottoms[end], folded.top
        if layer.type != "Eltwise" or len(bottoms) != 2 or bottoms.count(inner) != 1 or not SumReLU.fits(net, [layer]):
            return None
        layers = [layer]
        if end + 1 < len(net.layers) and net.layers[end + 1].type == "ReLU":
            if net.bottoms[end + 1] == net.tops[end + 1] == net.tops[end]:
                layers.append(net.layers[end + 1])
        if any(not isinstance(layer, OneDNNLayer) or layer.has_loss for layer in layers):
            return None
        return cls(net, start, len(folded.layers) + len(layers))

    def forward_fused(self):
        (bottom,), (inner,), (top,) = self.bottom, self.top, self.tops[-1]
        beside = self.bottoms[-2 if self.relu else -1]
        first, shapes = self.first, (bottom.shape, inner.shape)
        alone = first.plan(first.make_forward, *shapes, True, (), False)
        desc, weights = alone.desc(Arg.DST), alone.desc(Arg.WEIGHTS)
        both = first.plan(first.make_forward, *shapes, True, (("binary", Alg.ADD, desc), *self.post()), False)
        if both.desc(Arg.DST) is not desc or both.desc(Arg.WEIGHTS) is not weights:
            raise Unsupported(f"oneDNN wants another layout for a sum after the convolution '{first.name}'")
        self.fold_if_changed(weights)
        self.remember(both)
        kept = layouts.keep(bottom, layouts.data(bottom, both.desc(Arg.SRC)))
        other = layouts.data(next(blob for blob in beside if blob is not inner), desc)
        args = (Arg.SRC, kept.memory, Arg.WEIGHTS, self.weights, Arg.BIAS, self.bias)
        first.execute(
            both, *args, Arg.POST_OP | Arg.SRC_1, other, Arg.DST, layouts.mutable_data(top, desc)
        )  # fmt: skip
        layouts.defer(inner, desc, functools.partial(_convolve, alone, kept, self.weights, self.bias))


def _convolve(conv, kept: layouts.Kept, weights: Memory, bias: Memory, y: Memory) -> None:
    conv.run({Arg.SRC: kept.memory, Arg.WEIGHTS: weights, Arg.BIAS: bias, Arg.DST: y})
