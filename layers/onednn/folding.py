"""In TEST: BatchNorm and Scale folded into the convolution before them, the residual sum behind them added to it."""

from __future__ import annotations

import numpy as np

from minicaffe.in_place import complete_in_themselves, data_put_back
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.layers.onednn.chain import Chain, in_place_chain
from minicaffe.layers.onednn.with_relu import ConvolutionReLU, SumReLU
from minicaffe.onednn import layouts
from minicaffe.onednn.library import Alg, Arg, Unsupported
from minicaffe.onednn.memory import Memory, of_array, plain, reorder


class FoldedConvolution(Chain):
    """In TEST: y = s (w * x + b - mean) / deviation + t is a convolution with other weights and another bias."""

    types = ("Convolution", "BatchNorm", "Scale", "ReLU")

    def __init__(self, net, start, count):
        super().__init__(net, start, count)
        self.weights: Memory | None = None
        self.bias = Memory(plain((self.first.num_output,)))
        self.versions: list[object] = []

    @classmethod
    def fits(cls, net, layers):
        return "BatchNorm" in (layer.type for layer in layers) and net.phase == 1 and layers[1].use_global_stats and \
            ConvolutionReLU.fits(net, layers)  # fmt: skip

    def forward_fused(self):
        (bottom,), (top,) = self.bottom, self.top
        conv = self.first.plan(self.first.make_forward, bottom.shape, top.shape, True, self.post(), False)
        self.fold_if_changed(conv.desc(Arg.WEIGHTS))
        self.first.convolve(conv, bottom, top, self.weights, self.bias)

    def fold_if_changed(self, desc) -> None:
        """Compute weights, in the layout `desc`, and bias, unless nothing they depend on was written to."""
        versions = [layouts.version(blob) for layer in self.layers for blob in layer.blobs]
        if versions != self.versions or self.weights.desc is not desc:
            self.fold(desc)
            self.versions = versions

    def fold(self, desc) -> None:
        """Compute weights and bias."""
        conv, norm, scale = self.first, self.by_type["BatchNorm"], self.by_type.get("Scale")
        norm.load_statistics()
        factor = 1 / np.sqrt(norm.batch_variance.array() + np.float32(norm.eps))
        shift = (conv.blobs[1].read_data() if conv.bias_term else 0) - norm.batch_mean.array()
        if scale:
            factor = factor * scale.blobs[0].read_data().reshape(-1)
        shift = shift * factor
        if scale and scale.shift:
            shift += scale.blobs[1].read_data().reshape(-1)
        weights = conv.blobs[0].read_data()
        folded = weights * factor.reshape(-1, *[1] * (weights.ndim - 1))
        if self.weights is None or self.weights.desc is not desc:
            self.weights = Memory(desc)
        reorder(of_array(folded.reshape(conv.grouped)), self.weights)
        self.bias.array()[:] = shift

    def unchain(self):
        super().unchain()
        with data_put_back(self.tops[-1][0]):
            self.forward_apart()


class FoldedSum(FoldedConvolution):
    """A folded convolution, the Eltwise sum of its top and another blob, and perhaps ReLU: the end of a residual block.

    The convolution's own top, which the sum makes superfluous, is computed when somebody asks for it by name.
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
        x = layouts.data(bottom, both.desc(Arg.SRC))
        other = layouts.data(next(blob for blob in beside if blob is not inner), desc)
        args = (Arg.SRC, x, Arg.WEIGHTS, self.weights, Arg.BIAS, self.bias)
        added = Arg.POST_OP | Arg.SRC_1
        first.execute(both, *args, added, other, Arg.DST, layouts.mutable_data(top, desc))
        layouts.defer(inner, lambda: first.execute(alone, *args, Arg.DST, layouts.mutable_data(inner, desc)))
