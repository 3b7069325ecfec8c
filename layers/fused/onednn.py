"""Layers that oneDNN computes as one.

    Convolution or InnerProduct, ReLU                       ReLU as a post-operation
    Eltwise (sum of two), ReLU                              ReLU as a post-operation
    BatchNorm, Scale, ReLU                                  one primitive forward, one backward
    Convolution, BatchNorm, Scale, ReLU in TEST             statistics and scale folded into the weights, ReLU as above
    Convolution, BatchNorm, Scale, Eltwise, ReLU in TEST    the other summand as a post-operation, too

Values that are needed later are kept (`layouts.keep`): memory that is kept is not written to.
"""

from __future__ import annotations

import functools

import numpy as np

from minicaffe.core.fusion import fuses
from minicaffe.layers.fused import groups
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.conversion import reorder, to_numpy
from minicaffe.onednn.library import Alg, Arg, Flags, Unsupported
from minicaffe.onednn.tensors import Tensor, of_array, plain


class OneDNNFused(groups.EndsInReLU):
    """Base class of this engine's groups; they run if all their layers run by oneDNN."""

    refusals = (Unsupported,)

    def possible(self):
        return all(layer.native for layer in self.layers)

    def post(self) -> tuple:
        """The ReLU as post-operations: one, or none without a ReLU."""
        return (("eltwise", Alg.RELU, self.relu.negative_slope, 0.0),) if self.relu else ()


# -- folded convolutions -----------------------------------------------------------------------------------------------


#: weights; of larger layers no second copy is made
_MOST_FOLDED = 1 << 16


class OneDNNFolded(OneDNNFused, groups.FoldedConvolution):
    """A folded convolution, from which the Scale's bottom, z = (y - t) / s before the ReLU, can be computed.

    `restore` computes it, from an input that is kept.  After a net's first backward pass its layers are not folded.
    Where there are many weights, they are not multiplied: the convolution's result is scaled by post-operations.
    """

    until_backward = True

    def __init__(self, *args):
        super().__init__(*args)
        self.scales = self.conv.blobs[0].count > _MOST_FOLDED
        self.operands: tuple = ()  # `Arg.X, tensor, ...` beside source and target
        self.weights: layouts.Kept | None = None  # those of the layer, if they are used as they are
        self.versions: list[object] = []
        self.input: layouts.Kept | None = None  # the bottom's values, should the Scale need its own
        self.s = self.t = np.float32(0)  # of the last fold

    def make(self, *post):
        """The primitive of the convolution, with further post-operations."""
        conv, (bottom,), (top,) = self.conv, self.bottom, self.tops[0]
        channels = plain((1, conv.num_output, *[1] * conv.num_spatial))
        scaling = (("binary", Alg.MUL, channels), ("binary", Alg.ADD, channels)) if self.scales else ()
        return conv.plan(conv.make_forward, bottom.shape, top.shape, not self.scales, (*scaling, *post), False)

    def fold_if_changed(self, desc) -> None:
        """Compute the operands, weights in the layout `desc`, unless nothing they depend on was written to."""
        versions = self.versions_of_parameters()
        if versions == self.versions and self.operands[1].desc is desc:
            return
        self.norm.load_statistics(self.norm.statistics)
        if self.scale:
            self.s = self.scale.blobs[0].read_data().reshape(-1).copy()
            self.t = self.scale.blobs[1].read_data().reshape(-1).copy() if self.scale.shift else np.float32(0)
        self.operands, self.weights = self.fold(desc, self.s if self.scale else 1, self.t)
        self.versions = versions

    def versions_of_parameters(self) -> list[object]:
        """The versions of all parameters of the group; a write to one changes its version."""
        return [blob.data_memory.version for layer in self.layers for blob in layer.blobs]

    def fold(self, desc, s, t) -> tuple[tuple, layouts.Kept | None]:
        """(operands, what keeps their values); in new memory, for a deferred top may still need the old ones."""
        conv, (mean, variance) = self.conv, (memory.array() for memory in self.norm.statistics)
        b = conv.blobs[1].read_data() if conv.bias_term else 0
        statistics = b, mean, variance, self.norm.eps, s, t
        if self.scales:
            kept = layouts.keep(conv.blobs[0], layouts.read(conv.blobs[0].data_memory, conv.grouped, desc))
            shape = (1, conv.num_output, *[1] * conv.num_spatial)
            factor, bias = (_filled(shape, values) for values in groups.scaling(*statistics))
            return (Arg.WEIGHTS, kept.memory, _post(0), factor, _post(1), bias), kept
        w, values = groups.folded(conv.blobs[0].read_data(), *statistics)
        weights = Tensor(desc)
        reorder(of_array(w.reshape(conv.grouped)), weights)
        return (Arg.WEIGHTS, weights, Arg.BIAS, _filled((conv.num_output,), values)), None

    @property
    def scale_needs_bottom(self) -> bool:
        """Whether a backward pass needs the Scale's bottom."""
        return bool(self.scale and self.scale.kept_blobs and self.scale.param_propagate_down[0])

    def restore(self, layer):
        if layer is self.scale and self.scale_needs_bottom:
            kept = layer.kept_blobs.bottoms[0]
            kept.reshape(self.top[0].shape)
            kept.data = self.normalized()

    def normalized(self) -> np.ndarray:
        """The Scale's bottom in the last forward pass."""
        alone, operands = self.make(), self.operands
        if not self.s.all():  # where s is 0, y does not depend on z
            if self.versions != self.versions_of_parameters():
                raise self.conv.error(
                    "its parameters were written to since the forward pass: run forward before backward"
                )
            operands, _ = self.fold(alone.desc(Arg.WEIGHTS), 1, 0)
        y, own = Tensor(alone.desc(Arg.DST)), Tensor(alone.desc(Arg.WEIGHTS))
        reorder(operands[1], own)
        assert self.input is not None  # kept by the forward pass
        _convolve(alone, self.input, (Arg.WEIGHTS, own, *operands[2:]), None, y)
        if not self.s.all():
            return to_numpy(y)
        channels = (-1, *[1] * (len(self.top[0].shape) - 2))
        return (to_numpy(y) - self.t.reshape(channels)) / self.s.reshape(channels)


@fuses("ONEDNN")
class OneDNNFoldedSum(OneDNNFolded):
    """A folded convolution, the Eltwise sum of its top and another blob, and perhaps ReLU: the end of a residual block.

    The convolution's own top is not needed for the sum: it is deferred, which means computed on first read.
    """

    patterns = ("Convolution BatchNorm [Scale] +Eltwise [ReLU]",)

    def fits(self):
        eltwise = self.layer_for("Eltwise")
        return super().fits() and groups.adds_two(eltwise) and list(eltwise.coeffs) == [1.0, 1.0]

    def compute(self):
        (bottom,), (inner,), (top,) = self.bottom, self.tops[0], self.top
        beside = self.bottoms[-2 if self.relu else -1]
        alone = self.make()
        desc, weights = alone.desc(Arg.DST), alone.desc(Arg.WEIGHTS)
        both = self.make(("binary", Alg.ADD, desc), *self.post())
        if both.desc(Arg.DST) is not desc or both.desc(Arg.WEIGHTS) is not weights:
            raise Unsupported(f"oneDNN has another layout for a sum after the convolution '{self.conv.name}'")
        self.fold_if_changed(weights)
        kept = self.input = layouts.keep(bottom, layouts.data(bottom, both.desc(Arg.SRC)))
        other = layouts.data(next(blob for blob in beside if blob is not inner), desc)
        args = (Arg.SRC, kept.memory, *self.operands, _post(2 * self.scales), other)
        self.conv.execute(both, *args, Arg.DST, layouts.mutable_data(top, desc))
        layouts.defer(inner, desc, kept, functools.partial(_convolve, alone, kept, self.operands, self.weights))


@fuses("ONEDNN")
class OneDNNFoldedConvolution(OneDNNFolded):
    __doc__ = OneDNNFolded.__doc__

    def compute(self):
        (bottom,), (top,) = self.bottom, self.top
        conv = self.make(*self.post())
        self.fold_if_changed(conv.desc(Arg.WEIGHTS))
        x = layouts.data(bottom, conv.desc(Arg.SRC))
        if self.scale_needs_bottom:
            self.input = layouts.keep(bottom, x)
        self.conv.execute(conv, Arg.SRC, x, *self.operands, Arg.DST, layouts.mutable_data(top, conv.desc(Arg.DST)))


def _convolve(conv, source: layouts.Kept, operands: tuple, weights: layouts.Kept | None, y: Tensor) -> None:
    """Write a convolution of a kept source to y; the operands may be kept, too."""
    conv.run({Arg.SRC: source.memory, **dict(zip(operands[::2], operands[1::2], strict=True)), Arg.DST: y})


def _post(index: int) -> int:
    """The argument of the post-operation `index`, a binary one."""
    return Arg.POST_OP * (index + 1) | Arg.SRC_1


def _filled(shape: tuple[int, ...], values: np.ndarray) -> Tensor:
    result = Tensor(plain(shape))
    result.array()[...] = values.reshape(shape)
    return result


# -- ReLU as a post-operation ------------------------------------------------------------------------------------------


@fuses("ONEDNN")
class OneDNNConvolutionReLU(OneDNNFused, groups.ConvolutionReLU):
    __doc__ = groups.ConvolutionReLU.__doc__

    def compute(self):
        self.layers[0].forward_onednn(self.bottom, self.top, self.post())


@fuses("ONEDNN")
class OneDNNInnerProductReLU(OneDNNConvolutionReLU):
    __doc__ = groups.ConvolutionReLU.__doc__
    patterns = ("InnerProduct ReLU",)


@fuses("ONEDNN")
class OneDNNSumReLU(OneDNNFused, groups.SumReLU):
    __doc__ = groups.SumReLU.__doc__

    def fits(self):
        return super().fits() and list(self.layers[0].coeffs) == [1.0, 1.0]

    def make(self, desc):
        return primitives.binary(Alg.ADD, desc, desc, desc, post=self.post())

    def compute(self):
        eltwise = self.layers[0]
        x = eltwise.data(self.bottom[0])
        add = eltwise.plan(self.make, x.desc)
        other = layouts.data(self.bottom[1], x.desc)
        eltwise.execute(add, Arg.SRC, x, Arg.SRC_1, other, Arg.DST, layouts.mutable_data(self.top[0], x.desc))


# -- normalization -----------------------------------------------------------------------------------------------------


@fuses("ONEDNN")
class OneDNNNormalization(OneDNNFused, groups.Normalization):
    """BatchNorm with the Scale and the ReLU behind it: oneDNN's primitive has flags for both."""

    input: layouts.Kept  # the bottom's values in the last forward pass

    def __init__(self, *args):
        super().__init__(*args)
        norm = self.norm
        self.statistics = Tensor(plain((norm.channels,))), Tensor(plain((norm.channels,)))  # mean, variance
        self.flags = (Flags.GLOBAL_STATS if norm.use_global_stats else 0) | (Flags.RELU if self.relu else 0)
        if self.scale:
            self.flags |= Flags.SCALE | (Flags.SHIFT if len(self.scale.blobs) > 1 else 0)

    def fits(self):
        one_batch = not self.norm.collective  # the primitives for both take the statistics of one batch
        return super().fits() and one_batch and (self.relu is None or self.relu.negative_slope == 0)

    def make(self, desc):
        """Forward and backward primitive for one layout."""
        eps = self.norm.eps
        forward = primitives.batch_normalization(desc, desc, eps, self.flags)
        return forward, primitives.batch_normalization_backward(desc, desc, desc, eps, self.flags, forward)

    def compute(self):
        (bottom,), (top,), norm = self.bottom, self.top, self.norm
        x = norm.data_in_vectors(bottom)
        forward, _ = norm.plan(self.make, x.desc)
        signs = norm.own(forward.desc(Arg.WORKSPACE), "signs")
        if norm.use_global_stats:
            norm.load_statistics(self.statistics)
        self.input = layouts.keep(bottom, x)
        y = layouts.mutable_data(top, x.desc)
        shift = self.scale and len(self.scale.blobs) > 1 and layouts.data(self.scale.blobs[1]) or None
        norm.execute(
            forward, Arg.SRC, self.input.memory, Arg.DST, y, Arg.WORKSPACE, signs, Arg.SHIFT, shift,
            *self.shared_arguments(),
        )  # fmt: skip
        if not norm.use_global_stats:
            norm.remember(self.statistics, bottom.count)

    def shared_arguments(self) -> tuple:
        """The arguments of both directions."""
        scale = self.scale and layouts.read(self.scale.blobs[0].data_memory, (self.norm.channels,))
        mean, variance = self.statistics
        return (Arg.SCALE, scale, Arg.MEAN, mean, Arg.VARIANCE, variance)

    def bottom_gradient(self):
        (bottom,), (top,), norm = self.bottom, self.top, self.norm
        x = self.input.memory
        forward, backward = norm.plan(self.make, x.desc)
        signs = norm.own(forward.desc(Arg.WORKSPACE), "signs")
        dy = layouts.diff(top, x.desc)
        dx = layouts.mutable_diff(bottom, x.desc) if self.propagate_down[0] else norm.borrow(x.desc, "dx")
        diffs = [norm.own(plain((norm.channels,)), use) for use in ("scale", "shift")]
        args = [Arg.DIFF_SCALE, diffs[0] if self.scale else None]
        args += [Arg.DIFF_SHIFT, diffs[1] if self.scale and len(self.scale.blobs) > 1 else None]
        norm.execute(
            backward, Arg.SRC, x, Arg.DIFF_DST, dy, Arg.DIFF_SRC, dx, Arg.WORKSPACE, signs, *args,
            *self.shared_arguments(),
        )  # fmt: skip
        if self.scale:
            self.scale.add_to_diffs(*diffs)

    def top_gradient(self):
        (top,), norm, desc = self.top, self.norm, self.input.memory.desc
        dy, y = layouts.mutable_diff(top, desc), layouts.data(top, desc)
        if self.relu:
            gradient = norm.plan(_relu_gradient, desc)
            norm.execute(gradient, Arg.DST, y, Arg.DIFF_DST, dy, Arg.DIFF_SRC, dy)
        if self.scale:
            times = norm.plan(_times_channels, desc)
            scale = layouts.read(self.scale.blobs[0].data_memory, times.desc(Arg.SRC_1).shape)
            norm.execute(times, Arg.SRC, dy, Arg.SRC_1, scale, Arg.DST, dy)

    def restore(self, layer):
        norm, x = self.norm, self.input.memory
        if layer is norm:
            norm.input = self.input
            for own, memory in zip(norm.statistics, self.statistics, strict=True):
                own.array()[:] = memory.array()
        elif layer is self.scale and self.kept is not None:
            self.kept.reshape(self.top[0].shape)
            forward, (mean, variance) = norm.plan(norm.make_forward, x.desc), self.statistics
            y = layouts.mutable_data(self.kept, x.desc)
            norm.execute(forward, Arg.SRC, x, Arg.DST, y, Arg.MEAN, mean, Arg.VARIANCE, variance)


def _relu_gradient(desc):
    """The primitive dx = dy where y > 0, else 0; it reads the output y."""
    hint = primitives.eltwise(Alg.RELU_FROM_DST, desc, desc, 0.0, 0.0)
    return primitives.eltwise_backward(Alg.RELU_FROM_DST, desc, desc, desc, 0.0, 0.0, hint)


def _times_channels(desc):
    """The primitive x * s, with one s for each channel."""
    channels = plain((1, desc.shape[1]) + (1,) * (len(desc.shape) - 2))
    return primitives.binary(Alg.MUL, desc, channels, desc)
