"""Layers that follow one another in place, computed in one go on the GPU.

    Convolution, BatchNorm, Scale, ReLU   in TEST      statistics and scale folded into the weights, ReLU as below
    Convolution, ReLU                                  ReLU done while storing
    BatchNorm, Scale, ReLU                             one kernel behind the statistics; two for all gradients
    Eltwise (sum of two), ReLU                         one kernel

These layers are bandwidth-bound; fused, they read and write each value once. Only in-place followers are fused: no
named blob lies between them, so every blob holds what it would without fusion. A net runs its layers one by one when
callbacks or debug_info watch them, or when only a part of a chain is asked for; each layer then finds what it would
have kept.
"""

from __future__ import annotations

from typing import Any

from minicaffe.core.blob import Blob
from minicaffe.core.fusion import add_finder
from minicaffe.core.in_place import complete_in_themselves
from minicaffe.cuda import graph
from minicaffe.layers.batch_norm import BatchNorm
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.eltwise import Eltwise
from minicaffe.layers.relu import ReLU
from minicaffe.layers.scale import Scale
from minicaffe.proto import TEST
from minicaffe.proto.caffe_pb2 import EltwiseParameter


class Chain:
    """Layers `start` to `end` (inclusive) of a net, run as one.

    A subclass states `classes`: the first layer's, and those that may follow it once each and in this order.
    """

    classes: tuple[type, ...] = ()

    def __init__(self, net: Any, start: int, count: int) -> None:
        self.start, self.end = start, start + count - 1
        self.layers = net.layers[start : start + count]
        self.bottom, self.top = net.bottoms[start], net.tops[start]
        self.wanted = net.bottom_need_backward[start]
        self.first = self.layers[0]
        self.scale: Scale | None = next((layer for layer in self.layers if isinstance(layer, Scale)), None)
        self.relu: ReLU | None = next((layer for layer in self.layers if isinstance(layer, ReLU)), None)

    @classmethod
    def admits(cls, layer: Any) -> bool:
        """Whether a layer of the right class may be one of the chain."""
        return True

    def fits(self) -> bool:
        """Whether the layers, of the right classes and in place, can be one chain with the shapes they have now."""
        return True

    def forward(self) -> None:
        """Run the layers, together if their shapes allow it."""
        for i, layer in enumerate(self.layers):
            layer.reshape_if_needed(self.top if i else self.bottom, self.top)
        if self.bottom[0].count > 0 and self.fits():
            self.forward_fused()
            self.take_over()
            graph.before_replay(self.take_over)
        else:
            self.forward_apart()

    def take_over(self) -> None:
        """Note in the layers that their last forward pass was this chain's."""
        for layer in self.layers:
            layer.chain = self

    @property
    def fused(self) -> bool:
        """Whether the last forward pass of all these layers was this chain's."""
        return all(layer.chain is self for layer in self.layers)

    def forward_apart(self) -> None:
        """Run the layers one by one."""
        for i, layer in enumerate(self.layers):
            layer.forward(self.top if i else self.bottom, self.top)

    def forward_fused(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Called at the end of the forward pass that ran this chain."""

    @property
    def runs_backward(self) -> bool:
        """Whether `backward` stands for the layers' own after the last forward pass."""
        return False

    def leave(self, layer: Any) -> None:
        """Called before a layer of this chain runs forward by itself."""
        layer.chain = None

    def unchain(self) -> None:
        """No-op: `forward_fused` leaves each layer with what its own backward pass needs."""

    def slope(self) -> float | None:
        """The ReLU's slope, where there is one."""
        return self.relu.negative_slope if self.relu else None

    def followers(self) -> tuple:
        """Scale and ReLU as the kernels of BatchNorm take them."""
        s, b = self.scale_pointers()
        return (s, b, self.relu is not None, self.slope() or 0.0)

    def scale_pointers(self) -> tuple[int, int]:
        """Where factor and term of the Scale lie; 0 for what is not there."""
        blobs = [blob.gpu_data() for blob in self.scale.blobs] if self.scale else []
        return tuple([*blobs, 0, 0][:2])

    def scales_channels(self) -> bool:
        """Whether there is no Scale, or a learned one with a number for each channel."""
        scale, shape = self.scale, self.top[0].shape
        return scale is None or (scale.learned and scale.covered == shape[1] and scale.outer == shape[0])


class ConvolutionReLU(Chain):
    """Backward each runs by itself, for ReLU only looks at its top."""

    classes = (Convolution, ReLU)

    def fits(self):
        return bool(self.first.on_device) and len(self.bottom) == 1

    def forward_fused(self):
        conv, (bottom,), (top,) = self.first, self.bottom, self.top
        conv.prepare_gpu(self.bottom, self.top)
        y = top.mutable_gpu_data()
        conv.on_device.forward(bottom.gpu_data(), conv.blobs[0].gpu_data(), y, conv.bias_gpu(), self.slope())


class SumReLU(Chain):
    """Backward each runs by itself."""

    classes = (Eltwise, ReLU)

    def fits(self):
        return len(self.bottom) == 2 and self.first.operation == EltwiseParameter.SUM

    def forward_fused(self):
        (alpha, beta), y = self.first.coeffs, self.top[0].mutable_gpu_data()
        a, b = (blob.gpu_data() for blob in self.bottom)
        self.first.kernel("sum_relu")(self.top[0].count, alpha, a, beta, b, self.relu.negative_slope, y)


class FoldedConvolution(ConvolutionReLU):
    """In TEST: y = s (w * x + b - mean) / deviation + t is a convolution with other weights and another bias.

    A Scale whose bottom a backward pass needs is not folded in.
    """

    classes = (Convolution, BatchNorm, Scale, ReLU)

    @classmethod
    def admits(cls, layer):
        return not isinstance(layer, Scale) or layer.kept_blobs is None

    def __init__(self, net, start, count):
        super().__init__(net, start, count)
        self.norm: BatchNorm | None = next((layer for layer in self.layers if isinstance(layer, BatchNorm)), None)
        self.weights = Blob((), self.first.dtype)
        self.bias = Blob((), self.first.dtype)

    def fits(self):
        norm = self.norm
        return (
            super().fits()
            and norm is not None
            and norm.use_global_stats
            and norm.phase == TEST
            and self.scales_channels()
        )

    def forward_fused(self):
        conv, (bottom,), (top,) = self.first, self.bottom, self.top
        conv.prepare_gpu(self.bottom, self.top)
        self.weights.reshape(conv.blobs[0].shape)
        self.bias.reshape(conv.num_output)
        mean, deviation = self.norm.statistics_gpu(self.top)
        w, b = self.weights.mutable_gpu_data(), self.bias.mutable_gpu_data()
        n, length = self.weights.count, self.weights.count_range(1)
        arguments = (conv.blobs[0].gpu_data(), conv.bias_gpu(), mean, deviation, *self.scale_pointers())
        self.norm.kernel("fold")(n, length, *arguments, w, b)
        conv.on_device.forward(bottom.gpu_data(), w, top.mutable_gpu_data(), b, self.slope())


class FusedNorm(Chain):
    """BatchNorm with the Scale and the ReLU behind it; leaves each of them what it needs to run backward by itself."""

    classes = (BatchNorm, Scale, ReLU)

    def __init__(self, net, start, count):
        super().__init__(net, start, count)
        self.normalized = Blob((), self.first.dtype)  # the BatchNorm's output, which both BatchNorm and Scale keep
        self.whole = self.bottom[0] is self.top[0] and self.wanted[0]  # whether the top's diff ends as the bottom's
        self.seen: list[object] = []

    def fits(self):
        return self.scales_channels()

    @property
    def kept(self) -> Blob | None:
        """Where the Scale keeps its bottom, if it does."""
        return self.scale.kept_blobs.bottoms[0] if self.scale and self.scale.kept_blobs else None

    def forward_fused(self):
        norm = self.first
        needed = not norm.use_global_stats or self.kept is not None
        self.normalized.reshape(self.top[0].shape)
        normalized = self.normalized.mutable_gpu_data() if needed else 0
        norm.normalize_gpu(self.bottom, self.top, normalized, self.followers())

    def take_over(self):
        super().take_over()
        if not self.first.use_global_stats:
            self.first.normalized = self.normalized
        if self.kept is not None:
            self.kept.reshape(self.normalized.shape)
            self.kept.share_data(self.normalized)

    def leave(self, layer):
        super().leave(layer)
        own = Blob(self.normalized.shape, self.first.dtype)  # the other layer still needs the common one
        if layer is self.first:
            layer.normalized = own
        elif layer is self.scale and self.kept is not None:
            layer.kept_blobs.bottoms[0] = own

    def finish(self):
        self.seen = self.versions()

    def versions(self) -> list[object]:
        """Of what tells where the ReLU passes a gradient on: its top, or from its bottom's factor and term."""
        blobs = [self.top[0], *(self.scale.blobs if self.scale else [])] if self.relu else []
        return [blob.data_memory.version for blob in blobs]

    @property
    def runs_backward(self):
        return self.fused and not self.first.use_global_stats and self.seen == self.versions()

    def backward(self) -> None:
        """The gradients of all layers of the chain."""
        ds = db = 0
        if self.scale:
            pairs = zip(self.scale.blobs, self.scale.param_propagate_down, strict=True)
            ds, db = [*(blob.mutable_gpu_diff() if wanted else 0 for blob, wanted in pairs), 0][:2]
        self.first.gradients_gpu(self.top, self.wanted[0], self.bottom, self.followers(), db, ds)
        if not self.whole:  # what ReLU and Scale, working in place, leave there
            (top,), c = self.top, self.first.channels
            y, dy = self.normalized.gpu_data(), top.mutable_gpu_diff()
            self.first.kernel("followers_gradient")(top.count, c, top.count_range(2), y, *self.followers(), dy)


_KINDS = (FoldedConvolution, ConvolutionReLU, SumReLU, FusedNorm)


def find_chains(net: Any) -> list[Chain]:
    """The chains of a net, in order; each layer is in one at most."""
    chains: list[Chain] = []
    start = 0
    while start < len(net.layers):
        chain = next(filter(None, (_chain(kind, net, start) for kind in _KINDS)), None)
        if chain:
            chains.append(chain)
        start = chain.end + 1 if chain else start + 1
    return chains


def _chain(kind: type[Chain], net: Any, start: int) -> Chain | None:
    """The longest chain of a kind that begins at `start`."""
    first, rest, count = net.layers[start], kind.classes[1:], 1
    if not isinstance(first, kind.classes[0]) or len(net.tops[start]) != 1:
        return None
    (top,) = net.tops[start]
    for i in range(start + 1, len(net.layers)):
        layer = net.layers[i]
        follows = [k for k, cls in enumerate(rest) if isinstance(layer, cls)]
        if not follows or net.bottoms[i] != [top] or net.tops[i] != [top]:
            break
        if not kind.admits(layer):
            break
        rest, count = rest[follows[0] + 1 :], count + 1
    layers = net.layers[start : start + count]
    if count == 1 or any(layer.has_loss for layer in layers) or not complete_in_themselves(layers, start):
        return None
    chain = kind(net, start, count)
    return chain if chain.fits() else None


add_finder("CUDA", find_chains)
