"""Layers that the engine for tensor cores computes as one, on channels-last arrays.

Convolution, BatchNorm, Scale, ReLU   in TEST      statistics and scale folded into the weights, ReLU as below
Convolution, ReLU                                  ReLU done while storing
Eltwise (sum), ReLU                                one kernel
[Convolution,] BatchNorm, Scale, ReLU              moments in the convolution, or by one kernel; one kernel for the top;
                                                   two for all gradients

Each step of a kernel rounds its result as the layer of this step does.
"""

from __future__ import annotations

from minicaffe.core.blob import Blob
from minicaffe.core.fusion import fuses
from minicaffe.cuda import graph
from minicaffe.layers.fused import groups
from minicaffe.layers.fused.cuda import scale_pointers
from minicaffe.layers.shared.normalizer import ALONE
from minicaffe.layers.tensor import channels


class TensorFused(groups.EndsInReLU):
    """Base class of this engine's groups."""

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
class TensorFoldedConvolution(TensorFused, groups.FoldedConvolution):
    """A folded convolution; a Scale whose bottom a backward pass needs is not part of it."""

    patterns = (*groups.FoldedConvolution.patterns, "Convolution BatchNorm")

    def __init__(self, *args):
        super().__init__(*args)
        self.weights, self.bias = Blob((), self.conv.dtype), Blob((), self.conv.dtype)
        self._folded: list[object] = []  # the versions of what has been folded

    def fits(self):
        return super().fits() and (self.scale is None or self.scale.kept_blobs is None)

    def compute_arrays(self):
        conv = self.conv
        self.fold()
        graph.before_replay(self.fold)
        tensor = conv.prepare_tensor(self.bottom, self.top)
        x, packed, y = conv.data(self.bottom[0]), conv.packed(self.weights), conv.mutable_data(self.top[0])
        tensor.forward(x, packed, y, self.bias.gpu_data(), self.slope())

    def fold(self) -> None:
        """Compute weights and bias, if what they depend on has changed."""
        conv, norm = self.conv, self.norm
        sources = [*conv.blobs, *norm.blobs, *(self.scale.blobs if self.scale else [])]
        versions = [blob.data_memory.version for blob in sources]
        if self._folded == versions:
            return
        self.weights.reshape(conv.blobs[0].shape)
        self.bias.reshape(conv.num_output)
        stored = (norm.eps, *(blob.gpu_data() for blob in norm.blobs), *scale_pointers(self.scale))
        blobs = (norm.mean, norm.deviation, self.weights, self.bias)
        fold, results = norm.kernel("fold"), [blob.mutable_gpu_data() for blob in blobs]
        arguments = (self.weights.count_range(1), conv.blobs[0].gpu_data(), conv.bias_gpu(), *stored, *results)
        fold.launch((conv.num_output, 1), 256, *arguments)
        self._folded = [blob.data_memory.version for blob in sources]


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
    __doc__ = groups.SumReLU.__doc__

    def compute_arrays(self):
        self.layers[0].sum(self.bottom, self.top, self.slope())


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

    def followers(self) -> channels.Followers:
        """Arguments of the kernels: addresses of factor and term, whether there is a ReLU, its slope."""
        return (*scale_pointers(self.scale), self.relu is not None, self.slope() or 0.0)

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
