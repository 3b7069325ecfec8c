"""In TEST: BatchNorm and Scale folded into the convolution before them, the residual sum behind them added to it."""

from __future__ import annotations

import functools

import numpy as np

from minicaffe.core.in_place import complete_in_themselves
from minicaffe.layers.fused.onednn_chain import Chain, in_place_chain
from minicaffe.layers.fused.onednn_relu import ConvolutionReLU, SumReLU
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.onednn import layouts
from minicaffe.onednn.conversion import reorder, to_numpy
from minicaffe.onednn.library import Alg, Arg, Unsupported
from minicaffe.onednn.tensors import Tensor, of_array, plain


class FoldedConvolution(Chain):
    """In TEST: y = s (w * x + b - mean) / deviation + t is a convolution with other weights and another bias.

    The Scale's bottom, z = (y - t) / s before the ReLU, is not computed.  Only the gradient of s needs it: `unchain`
    computes it from a kept input, and after its first backward pass a net is folded no more (`Net.folds`).
    """

    types = ("Convolution", "BatchNorm", "Scale", "ReLU")

    def __init__(self, net, start, count):
        super().__init__(net, start, count)
        self.norm, self.scale = self.by_type["BatchNorm"], self.by_type.get("Scale")
        self.weights: Tensor | None = None
        self.bias: Tensor | None = None
        self.versions: list[object] = []
        self.input: layouts.Kept | None = None  # the bottom's values, should the Scale need its own
        self.s = self.t = np.float32(0)  # of the last fold

    @classmethod
    def fits(cls, net, layers):
        return "BatchNorm" in (layer.type for layer in layers) and net.folds and layers[1].use_global_stats and \
            ConvolutionReLU.fits(net, layers)  # fmt: skip

    def forward_fused(self):
        (bottom,), (top,) = self.bottom, self.top
        conv = self.first.plan(self.first.make_forward, bottom.shape, top.shape, True, self.post(), False)
        self.fold_if_changed(conv.desc(Arg.WEIGHTS))
        if self.scale_needs_bottom:
            self.input = layouts.keep(bottom, layouts.data(bottom, conv.desc(Arg.SRC)))
        self.first.convolve(conv, bottom, top, self.weights, self.bias)

    def fold_if_changed(self, desc) -> None:
        """Compute weights, in the layout `desc`, and bias, unless nothing they depend on was written to."""
        versions = self.versions_of_parameters()
        if versions == self.versions and self.weights.desc is desc:
            return
        self.norm.load_statistics(self.norm.statistics)
        if self.scale:
            self.s = self.scale.blobs[0].read_data().reshape(-1).copy()
            self.t = self.scale.blobs[1].read_data().reshape(-1).copy() if self.scale.shift else np.float32(0)
        self.weights, self.bias = self.fold(desc, self.s if self.scale else 1, self.t)
        self.versions = versions

    def versions_of_parameters(self) -> list[object]:
        return [blob.data_memory.version for layer in self.layers for blob in layer.blobs]

    def fold(self, desc, s, t) -> tuple[Tensor, Tensor]:
        """Weights, in the layout `desc`, and bias; in new memory, for a deferred top may still need the old ones."""
        conv, (mean, variance) = self.first, (memory.array() for memory in self.norm.statistics)
        factor = s / np.sqrt(variance + np.float32(self.norm.eps))
        shift = (conv.blobs[1].read_data() if conv.bias_term else 0) - mean
        weights = conv.blobs[0].read_data()
        folded, bias = Tensor(desc), Tensor(plain((conv.num_output,)))
        reorder(of_array((weights * factor.reshape(-1, *[1] * (weights.ndim - 1))).reshape(conv.grouped)), folded)
        bias.array()[:] = shift * factor + t
        return folded, bias

    @property
    def scale_needs_bottom(self) -> bool:
        """Whether a backward pass needs what the Scale finds at its bottom."""
        return bool(self.scale and self.scale.kept_blobs and self.scale.param_propagate_down[0])

    def restore(self, layer):
        if layer is self.scale and self.scale_needs_bottom:
            kept = layer.kept_blobs.bottoms[0]
            kept.reshape(self.top[0].shape)
            kept.data = self.normalized()

    def normalized(self) -> np.ndarray:
        """What the Scale would have found at its bottom in the last forward pass."""
        (bottom,), (top,), conv = self.bottom, self.top, self.first
        alone = conv.plan(conv.make_forward, bottom.shape, top.shape, True, (), False)
        weights, bias = self.weights, self.bias
        if not self.s.all():  # where s is 0, y does not depend on z
            if self.versions != self.versions_of_parameters():
                raise conv.error("its parameters were written to since the forward pass: run forward before backward")
            weights, bias = self.fold(alone.desc(Arg.WEIGHTS), 1, 0)
        y, own = Tensor(alone.desc(Arg.DST)), Tensor(alone.desc(Arg.WEIGHTS))
        reorder(weights, own)
        _convolve(alone, self.input, own, bias, y)
        if not self.s.all():
            return to_numpy(y)
        channels = (-1, *[1] * (len(top.shape) - 2))
        return (to_numpy(y) - self.t.reshape(channels)) / self.s.reshape(channels)


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
        if not complete_in_themselves(layers, end):
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
        kept = self.input = layouts.keep(bottom, layouts.data(bottom, both.desc(Arg.SRC)))
        other = layouts.data(next(blob for blob in beside if blob is not inner), desc)
        args = (Arg.SRC, kept.memory, Arg.WEIGHTS, self.weights, Arg.BIAS, self.bias)
        first.execute(
            both, *args, Arg.POST_OP | Arg.SRC_1, other, Arg.DST, layouts.mutable_data(top, desc)
        )  # fmt: skip
        layouts.defer(inner, desc, functools.partial(_convolve, alone, kept, self.weights, self.bias))


def _convolve(conv, kept: layouts.Kept, weights: Tensor, bias: Tensor, y: Tensor) -> None:
    """Write a convolution of a kept input to y."""
    conv.run({Arg.SRC: kept.memory, Arg.WEIGHTS: weights, Arg.BIAS: bias, Arg.DST: y})
