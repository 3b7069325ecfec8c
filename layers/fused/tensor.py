"""Layers that the engine for tensor cores computes as one, on channels-last arrays.

Convolution, BatchNorm, Scale, ReLU   in TEST      statistics and scale folded into the weights, ReLU as below
Convolution, ReLU                                  ReLU done while storing
Eltwise (sum), ReLU, Split                         one kernel, and one for the gradients
[Convolution,] BatchNorm, Scale, ReLU              moments in the convolution, or by one kernel; one kernel for the top;
                                                   two for all gradients

Each step of a kernel rounds its result as the layer of this step does.
"""

from __future__ import annotations

from minicaffe.core.blob import Blob
from minicaffe.core.fusion import fuses
from minicaffe.cuda import graph
from minicaffe.layers.fused import groups
from minicaffe.layers.fused.cuda import CudaFoldedConvolution, scale_pointers
from minicaffe.layers.shared.normalizer import ALONE, Followers
from minicaffe.layers.tensor import channels

_MOST_READERS = 2  #: tops of a Split whose gradients the kernels add


class TensorFused(groups.EndsInReLU):
    """Base class of this engine's groups."""

    also: tuple[str, ...] = ()

    def possible(self):
        return all(layer.active for layer in self.layers)

    def compute(self):
        self.compute_arrays()
        for layer in self.layers:
            layer.ran = True

    def compute_arrays(self) -> None:
        """The forward pass of all layers."""
        raise NotImplementedError

    def slope(self) -> float | None:
        """The ReLU's slope; None without one."""
        return self.relu.negative_slope if self.relu else None


@fuses("TENSOR")
class TensorFoldedConvolution(TensorFused, CudaFoldedConvolution):
    __doc__ = CudaFoldedConvolution.__doc__

    def compute_arrays(self):
        conv = self.conv
        self.fold_if_changed()
        graph.before_replay(self.fold_if_changed)
        tensor = conv.prepare_tensor(self.bottom, self.top)
        x, packed, y = conv.data(self.bottom[0]), conv.packed(self.weights), conv.mutable_data(self.top[0])
        tensor.forward(x, packed, y, self.bias.gpu_data(), self.slope())


@fuses("TENSOR")
class TensorConvolutionReLU(TensorFused, groups.ConvolutionReLU):
    __doc__ = groups.ConvolutionReLU.__doc__

    def compute_arrays(self):
        conv = self.layers[0]
        tensor = conv.prepare_tensor(self.bottom, self.top)
        x, packed, y = conv.data(self.bottom[0]), conv.packed(), conv.mutable_data(self.top[0])
        tensor.forward(x, packed, y, conv.bias_gpu(), self.slope())


@fuses("TENSOR")
class TensorSumReLU(TensorFused, groups.SumReLU):
    """An Eltwise sum of two blobs and its ReLU, forward and backward; and a Split behind, whose gradients are added."""

    patterns = ("Eltwise [ReLU] +Split", "Eltwise ReLU")

    def __init__(self, *args):
        super().__init__(*args)
        self.split = self.layer_for("Split")
        self.result = (self.bottoms[-1] if self.split else self.top)[0]

    def fits(self):
        return super().fits() and len(self.top) <= _MOST_READERS

    def compute_arrays(self):
        self.layers[0].sum(self.bottom, [self.result], self.slope())

    @property
    def runs_backward(self):
        return self.intact and all(map(all, self.needs[1:]))

    def gradients(self):
        eltwise, result = self.layers[0], self.result
        first, *second = [eltwise.diff(blob) for blob in self.top]
        y = eltwise.data(result) if self.relu else 0
        layout, dx = eltwise.layout(result), eltwise.mutable_diff(result)
        added = second[0] if second else 0
        layout.kernel("add_gradients")(layout.size, self.slope() or 0.0, y, first, added, dx)
        eltwise.backward_tensor([result], self.propagate_down, self.bottom)


@fuses("TENSOR")
class TensorNormalization(TensorFused, groups.Normalization):
    """BatchNorm with the Scale and the ReLU behind it, and the Convolution before it, which computes the moments.

    With global statistics they run backward one by one.
    """

    patterns = ("Convolution BatchNorm [Scale] [ReLU]", *groups.Normalization.patterns)

    def __init__(self, net, start, count, runner):
        super().__init__(net, start, count, runner)
        conv = self.layers[0] if self.layers[0].type == "Convolution" else None
        self.conv, self.norm = conv, self.layer_for("BatchNorm")
        at = 1 if conv else 0
        self.source, self.wanted = self.bottoms[at], net.bottom_need_backward[start + at][0]
        self.in_place = self.source[0] is self.top[0] and self.wanted
        self.moments = Blob((), self.norm.dtype)

    def fits(self):
        of_batch = not self.norm.use_global_stats
        return (
            super().fits() and (of_batch or not (self.conv or self.kept)) and not (self.conv and self.conv.kept_blobs)
        )

    def followers(self) -> Followers:
        return Followers(*scale_pointers(self.scale), self.relu is not None, self.slope() or 0.0)

    def compute_arrays(self):
        conv, norm = self.conv, self.norm
        if conv is None:
            return norm.normalize_tensor(self.source, self.top, self.followers())
        tensor = conv.prepare_tensor(self.bottom, self.source)
        x, packed, y = conv.data(self.bottom[0]), conv.packed(), conv.mutable_data(self.source[0])
        parts = tensor.moment_parts()
        self.moments.reshape(conv.num_output, parts[0], 2)
        moments = self.moments.mutable_gpu_data()
        tensor.forward(x, packed, y, conv.bias_gpu(), None, moments)
        norm.normalize_tensor(self.source, self.top, self.followers(), (moments, *parts))

    def sign_sources(self):
        return [*self.top, *(self.scale.blobs if self.scale else [])]

    @property
    def runs_backward(self):
        return not self.norm.use_global_stats and super().runs_backward

    def gradients(self):
        super().gradients()
        if self.conv:
            self.conv.backward_tensor(self.source, self.propagate_down, self.bottom)

    def bottom_gradient(self):
        db, ds = self.scale.gradients() if self.scale else (0, 0)
        self.norm.gradients_tensor(self.top, self.wanted, self.source, self.followers(), db, ds)

    def top_gradient(self):
        norm, (top,) = self.norm, self.top
        layout, statistics, dy = norm.layout(top), norm.statistics(), norm.diff(top)
        x, out = norm.kept.array, norm.mutable_diff(top)
        channels.followers_gradient(layout, x, dy, statistics, self.followers(), out)

    def restore(self, layer):
        if layer is self.scale and self.kept is not None:
            self.kept.reshape(self.top[0].shape)
            norm = self.norm
            layout, y = norm.layout(self.kept), norm.mutable_data(self.kept)
            channels.normalize(layout, norm.kept.array, norm.statistics(), ALONE, y)
