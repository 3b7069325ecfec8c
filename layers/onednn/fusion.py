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

import numpy as np

from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.memory import Memory as Buffer
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Alg, Arg, Flags, Unsupported
from minicaffe.onednn.memory import Memory, of_array, plain, reorder
from minicaffe.proto.caffe_pb2 import EltwiseParameter


class Chain:
    """Layers `start` to `end` (inclusive) of a net, run as one.

    A subclass states `types`: the leading type, and those that may follow it once each and in this order.
    """

    types: tuple[str, ...] = ()

    def __init__(self, net, start: int, count: int) -> None:
        self.start, self.end = start, start + count - 1
        self.layers = net.layers[start : start + count]
        self.bottom, self.top = net.bottoms[start], net.tops[start]
        self.bottoms, self.tops = (blobs[start : start + count] for blobs in (net.bottoms, net.tops))
        self.wanted = net.bottom_need_backward[start]
        self.by_type = {layer.type: layer for layer in self.layers}
        self.first, self.relu = self.layers[0], self.by_type.get("ReLU")
        self.possible = True

    @classmethod
    def find(cls, net, start: int) -> Chain | None:
        """The chain of this kind that begins at layer `start`, if there is one."""
        return _chain(cls, net, start)

    @classmethod
    def fits(cls, net, layers) -> bool:
        """Whether the layers, of the right types and in place, may be one chain of this kind."""
        return True

    def forward(self) -> None:
        """Run the layers, together if their shapes allow it."""
        self._forward()
        if Buffer.unsettled:
            Buffer.settle()

    def _forward(self) -> None:
        for layer, bottom, top in zip(self.layers, self.bottoms, self.tops, strict=True):
            layer.reshape_if_needed(bottom, top)
        if self.possible and all(layer.native for layer in self.layers):
            try:
                self.forward_fused()
            except Unsupported:
                self.possible = False
            else:
                for layer in self.layers:
                    layer.chain = self
                return
        self.forward_apart()

    def forward_apart(self) -> None:
        """Run the layers one by one."""
        for layer, bottom, top in zip(self.layers, self.bottoms, self.tops, strict=True):
            layer.forward_cpu(bottom, top)

    def forward_fused(self) -> None:
        raise NotImplementedError

    @property
    def runs_backward(self) -> bool:
        """Whether `backward` stands for the layers' own, after this forward pass."""
        return False

    def before_backward(self) -> None:
        """Nothing: a layer that runs backward by itself takes its chain apart."""

    def unchain(self) -> None:
        """Leave every layer with what its own backward pass needs."""
        for layer in self.layers:
            layer.chain = None

    def post(self) -> tuple:
        """The post-operation that is the ReLU."""
        return (("eltwise", Alg.RELU, self.relu.negative_slope, 0.0),) if self.relu else ()


class WithReLU(Chain):
    """Convolution or InnerProduct and ReLU; each runs backward by itself, for ReLU only looks at its top."""

    def forward_fused(self):
        self.first.forward_onednn(self.bottom, self.top, self.post())


class ConvolutionReLU(WithReLU):
    types = ("Convolution", "ReLU")

    @classmethod
    def fits(cls, net, layers):
        return len(layers[0].blobs) and len(net.bottoms[net.layers.index(layers[0])]) == 1


class InnerProductReLU(WithReLU):
    types = ("InnerProduct", "ReLU")


class SumReLU(Chain):
    """Eltwise sum of two bottoms and ReLU."""

    types = ("Eltwise", "ReLU")

    @classmethod
    def fits(cls, net, layers):
        return layers[0].operation == EltwiseParameter.SUM and list(layers[0].coeffs) == [1.0, 1.0]

    def make(self, desc):
        return primitives.binary(Alg.ADD, desc, desc, desc, post=self.post())

    def forward_fused(self):
        x = layouts.data(self.bottom[0])
        add = self.first.plan(self.make, x.desc)
        other = layouts.data(self.bottom[1], x.desc)
        self.first.execute(add, Arg.SRC, x, Arg.SRC_1, other, Arg.DST, layouts.mutable_data(self.top[0], x.desc))


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
        self.forward_apart()


class FoldedSum(FoldedConvolution):
    """A folded convolution, the Eltwise sum of its top and another blob, and perhaps ReLU: the end of a residual block.

    The convolution's own top, which the sum makes superfluous, is computed when somebody asks for it by name.
    """

    @classmethod
    def find(cls, net, start):
        folded = _chain(FoldedConvolution, net, start)
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
        x = layouts.data(bottom, both.desc(Arg.SRC))
        other = layouts.data(next(blob for blob in beside if blob is not inner), desc)
        args = (Arg.SRC, x, Arg.WEIGHTS, self.weights, Arg.BIAS, self.bias)
        added = Arg.POST_OP | Arg.SRC_1
        first.execute(both, *args, added, other, Arg.DST, layouts.mutable_data(top, desc))
        layouts.defer(inner, lambda: first.execute(alone, *args, Arg.DST, layouts.mutable_data(inner, desc)))


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
        """Forward primitive, backward primitive, and the notes one leaves for the other."""
        eps = self.first.eps
        forward = primitives.batch_normalization(desc, desc, eps, self.flags)
        backward = primitives.batch_normalization_backward(desc, desc, desc, eps, self.flags, forward)
        notes = forward.desc(Arg.WORKSPACE)
        return forward, backward, notes and Memory(notes)

    def forward_fused(self):
        (bottom,), (top,), norm = self.bottom, self.top, self.first
        x = layouts.data(bottom)
        forward, _, notes = self.first.plan(self.make, x.desc)
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

    def backward(self) -> None:
        """The gradients of all layers of the chain."""
        self._backward()
        if Buffer.unsettled:
            Buffer.settle()

    def _backward(self) -> None:
        (bottom,), (top,), norm = self.bottom, self.top, self.first
        x = self.input if bottom is top else layouts.data(bottom, self.layout)
        _, backward, notes = norm.plan(self.make, x.desc)
        dy = layouts.diff(top, x.desc)
        dx = layouts.mutable_diff(bottom, x.desc) if self.wanted[0] else norm.plan(Memory, x.desc)
        diffs = [norm.plan(Memory, plain((norm.channels,))), norm.plan(_second, plain((norm.channels,)))]
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


def _second(desc) -> Memory:
    """Memory, for a plan that already has one in this layout."""
    return Memory(desc)


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


def _chain(kind: type[Chain], net, start: int) -> Chain | None:
    """The longest chain of a kind that begins at `start`."""
    layers = [net.layers[start]]
    if (getattr(layers[0], "role", "") or layers[0].type) != kind.types[0] or len(net.tops[start]) != 1:
        return None
    (top,), rest = net.tops[start], kind.types[1:]
    for i in range(start + 1, len(net.layers)):
        layer = net.layers[i]
        in_place = net.bottoms[i] == [top] and net.tops[i] == [top]
        if not in_place or layer.type not in rest:
            break
        rest = rest[rest.index(layer.type) + 1 :]
        layers.append(layer)
    usable = all(isinstance(layer, OneDNNLayer) and not layer.has_loss for layer in layers)
    if len(layers) < 2 or not usable or not kind.fits(net, layers):
        return None
    return kind(net, start, len(layers))
