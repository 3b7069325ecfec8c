"""Layers that CUDA kernels compute as one.

Convolution, BatchNorm, Scale, ReLU in TEST        statistics and scale folded into the weights, ReLU as below
Convolution, BatchNorm, Scale, Eltwise, ReLU       statistics with the convolution; one kernel after it
Convolution, ReLU, Pooling                         ReLU done while storing; its gradient with the pooling's
Eltwise (sum of two), ReLU                         one kernel, and one for all gradients
BatchNorm, Scale, Eltwise, ReLU                    two kernels, one for channels of few values; as many for gradients

The gradients that the tops of a Split behind a group leave are added by the group's own kernels.
"""

from __future__ import annotations

from minicaffe.core.blob import Blob
from minicaffe.core.fusion import fuses
from minicaffe.cuda import graph
from minicaffe.layers.fused import groups
from minicaffe.layers.fused.cuda_pooling import activation, pooling_gradient, takes_activations
from minicaffe.layers.fused.groups import adds_two, scales_channels
from minicaffe.layers.shared.normalizer import Followers, Gradients, Joined, Moments, Normalizer

_MOST_READERS = 2  #: tops of a Split whose gradients the kernels add


class CudaFused(groups.EndsInReLU):
    """Base class of this engine's groups, behind which there may be a Split.

    result: what the layers leave; a Split has it as its bottom.
    """

    also: tuple[str, ...] = ("CUDNN",)  # these variants differ in the products that `on_device` computes

    def __init__(self, *args):
        super().__init__(*args)
        self.split = self.layer_for("Split")
        self.result = (self.bottoms[-1] if self.split else self.top)[0]

    def fits(self):
        return super().fits() and (self.split is None or len(self.top) <= _MOST_READERS)

    def possible(self):
        return self.bottom[0].count > 0

    def slope(self) -> float | None:
        """The ReLU's slope; None without one."""
        return self.relu.negative_slope if self.relu else None

    def incoming(self) -> tuple[int, int]:
        """The addresses of the gradients that the readers of the result leave, the second 0 if there is one."""
        return tuple([*(blob.gpu_diff() for blob in self.top), 0][:2])

    def through(self) -> int:
        """The address of the result's diff if the Split or the ReLU changes it, else 0."""
        return self.result.mutable_gpu_diff() if self.split or self.relu else 0


# -- convolutions ------------------------------------------------------------------------------------------------------


def scale_pointers(scale) -> tuple[int, int]:
    """The device addresses of a Scale's factor and term; 0 for one that it does not have."""
    blobs = [blob.gpu_data() for blob in scale.blobs] if scale else []
    return tuple([*blobs, 0, 0][:2])


@fuses("CUDA")
class CudaFoldedConvolution(CudaFused, groups.FoldedConvolution):
    """A folded convolution; a Scale whose bottom a backward pass needs is not part of it.

    The folded weights are kept until a parameter is written to.
    """

    def __init__(self, *args):
        super().__init__(*args)
        self.weights = Blob((), self.conv.dtype)
        self.bias = Blob((), self.conv.dtype)
        self._folded: list[object] = []  # versions of the parameters

    def fits(self):
        needed = self.scale is not None and self.scale.kept_blobs is not None
        return super().fits() and bool(self.conv.on_device) and not needed

    def possible(self):
        return super().possible() and scales_channels(self.scale, self.top[0].shape)

    def compute(self):
        conv, (bottom,), (top,) = self.conv, self.bottom, self.top
        conv.prepare_gpu(self.bottom, self.top)
        self.fold_if_changed()
        graph.before_replay(self.fold_if_changed)
        w, b = self.weights.gpu_data(), self.bias.gpu_data()
        conv.on_device.forward(bottom.gpu_data(), w, top.mutable_gpu_data(), b, self.slope())

    def fold_if_changed(self) -> None:
        """Compute the weights, unless nothing that they depend on was written to since the last time."""
        conv, norm, weights = self.conv, self.norm, self.weights
        versions = [blob.data_memory.version for layer in self.layers for blob in layer.blobs]
        if versions == self._folded:
            return
        weights.reshape(conv.blobs[0].shape)
        self.bias.reshape(conv.num_output)
        stored = (norm.eps, *(blob.gpu_data() for blob in norm.blobs), *scale_pointers(self.scale))
        device = norm.on_device  # the statistics are left there for the layer's own backward pass
        blobs = (device.mean, device.deviation, weights, self.bias)
        results = [blob.mutable_gpu_data() for blob in blobs]
        fold, grid = norm.kernel("fold"), (conv.num_output, 1)
        fold.launch(grid, 256, weights.count_range(1), conv.blobs[0].gpu_data(), conv.bias_gpu(), *stored, *results)
        self._folded = [] if graph.capturing() else versions  # what is recorded is not yet computed


@fuses("CUDA")
class CudaConvolutionReLU(CudaFused, groups.ConvolutionReLU):
    """A Convolution, its ReLU, and a Pooling; without a Pooling they run backward one by one."""

    patterns = ("Convolution ReLU +Pooling", *groups.ConvolutionReLU.patterns)

    def __init__(self, *args):
        super().__init__(*args)
        self._runs_backward = args[0].layer_need_backward
        self.pooling = self.layer_for("Pooling")

    def fits(self):
        alone = all(layer.kept_blobs is None for layer in self.layers)
        with_pooling = self.pooling is None or (alone and takes_activations(self.pooling))
        return super().fits() and bool(self.layers[0].on_device) and with_pooling

    def compute(self):
        conv, (bottom,), (top,) = self.layers[0], self.bottom, self.tops[0]
        conv.prepare_gpu(self.bottom, self.tops[0])
        y = top.mutable_gpu_data()
        conv.on_device.forward(bottom.gpu_data(), conv.blobs[0].gpu_data(), y, conv.bias_gpu(), self.slope())
        if self.pooling:
            self.pooling.forward_gpu(self.tops[0], self.top)

    @property
    def runs_backward(self):
        needed = all(map(all, self.needs[1:])) and all(self._runs_backward[self.start : self.end + 1])
        return self.pooling is not None and needed and self.intact

    def gradients(self):
        (top,) = self.tops[0]
        pooling_gradient(self.pooling, top, self.top[0], front=activation(self.relu), x=top.gpu_data())
        self.layers[0].backward_gpu(self.tops[0], self.propagate_down, self.bottom)


# -- sums --------------------------------------------------------------------------------------------------------------


@fuses("CUDA")
class CudaSumReLU(CudaFused, groups.SumReLU):
    """An Eltwise sum of two blobs and its ReLU, forward and backward."""

    patterns = ("Eltwise [ReLU] +Split", "Eltwise ReLU")

    def compute(self):
        eltwise, y = self.layers[0], self.result.mutable_gpu_data()
        (alpha, beta), (a, b) = eltwise.coeffs, (blob.gpu_data() for blob in self.bottom)
        relu = (self.relu is not None, self.slope() or 0.0)
        eltwise.kernel("sum").packs(self.result.count, alpha, a, beta, b, *relu, y)

    @property
    def runs_backward(self):
        return self.intact

    def gradients(self):
        dys, through = self.incoming(), self.through()
        self.layers[0].sum_gradients_gpu(self.result, dys, self.propagate_down, self.bottom, self.relu, through)


# -- normalization -----------------------------------------------------------------------------------------------------


@fuses("CUDA")
class CudaNormalization(CudaFused, groups.Normalization):
    """BatchNorm with what is behind it; without the values that were normalized the layers run backward one by one."""

    patterns: tuple[str, ...] = (
        "BatchNorm [Scale] +Eltwise [ReLU] +Split",
        "BatchNorm [Scale] +Eltwise [ReLU]",
        "BatchNorm [Scale] [ReLU] +Split",
        "BatchNorm [Scale] [ReLU]",
    )

    def __init__(self, *args):
        super().__init__(*args)
        norm, at = self.norm, self.layers.index(self.norm)
        (self.source,), (self.inner,) = self.bottoms[at], self.tops[at]  # of the BatchNorm
        self.wanted = self.needs[at][0]
        self.in_place = self.source is self.inner and self.wanted
        #: whether the Normalizer keeps the values
        self.keeps = not norm.use_global_stats or self.kept is not None
        self.normalizer = Normalizer(norm.channels, norm.eps, norm.dtype, norm.exchange)
        self.eltwise = self.layer_for("Eltwise")
        if self.eltwise is not None:
            at = self.layers.index(self.eltwise)
            bottoms, needs = self.bottoms[at], self.needs[at]
            self.own_index = bottoms.index(self.inner)
            self.other = bottoms[1 - self.own_index]
            self.own_wanted, self.other_wanted = needs[self.own_index], needs[1 - self.own_index]

    def fits(self):
        return super().fits() and (self.eltwise is None or adds_two(self.eltwise))

    def possible(self):
        return super().possible() and scales_channels(self.scale, self.inner.shape)

    def followers(self) -> Followers:
        return Followers(*scale_pointers(self.scale), self.relu is not None, self.slope() or 0.0)

    def factors(self) -> tuple[float, float]:
        """The factors in the sum: of the scaled values, and of the other blob."""
        if self.eltwise is None:
            return 1.0, 0.0
        return self.eltwise.coeffs[self.own_index], self.eltwise.coeffs[1 - self.own_index]

    def compute(self):
        self.normalize(self.source.gpu_data())

    def normalize(self, x: int, moments: Moments | None = None) -> None:
        """Compute all that follows the values x."""
        y, shape = self.result.mutable_gpu_data(), self.result.shape
        joined = Joined(*self.factors())
        if self.eltwise is not None:
            joined = Joined(*self.factors(), self.other.gpu_data(), self.inner.mutable_gpu_data())
        behind = self.followers(), joined
        self.norm.normalize_gpu(self.normalizer, shape, x, y, *behind, moments=moments, kept=self.keeps)

    def sign_sources(self):
        """The result, and what the scaled values depend on, from which their signs are computed again."""
        return [self.result, *(self.scale.blobs if self.scale else [])] if self.eltwise is None else []

    @property
    def runs_backward(self):
        joins = self.eltwise is None or self.own_wanted
        return joins and self.keeps and super().runs_backward

    def gradients(self):
        ds = db = 0
        if self.scale:
            pairs = zip(self.scale.blobs, self.scale.param_propagate_down, strict=True)
            ds, db = [*(blob.mutable_gpu_diff() if wanted else 0 for blob, wanted in pairs), 0][:2]
        joined, changes = self.eltwise is not None, self.scale or self.relu or self.split or self.eltwise
        gradients = Gradients(
            *self.incoming(),
            top=self.result.gpu_data() if joined and self.relu else 0,
            through=self.through() if joined else 0,
            beside=self.other.mutable_gpu_diff() if joined and self.other_wanted else 0,
            db=db,
            ds=ds,
            inner=self.inner.mutable_gpu_diff() if changes and not self.in_place else 0,
            dx=self.source.mutable_gpu_diff() if self.wanted else 0,
        )
        self.normalizer.backward(gradients, self.followers(), self.factors())

    def restore(self, layer):
        if layer is self.norm:
            self.normalizer.copy_to(layer.on_device)
        elif layer is self.scale and self.kept is not None:
            self.normalizer.normalized(self.kept)


@fuses("CUDA")
class CudaNormalizedConvolution(CudaNormalization):
    """A convolution with its BatchNorm and what is behind it.

    Its result, which the BatchNorm in place replaces, is only in the Normalizer.
    """

    patterns = tuple(f"Convolution {pattern}" for pattern in CudaNormalization.patterns)

    def __init__(self, *args):
        super().__init__(*args)
        self.conv, self.keeps = self.layers[0], True
        self._runs_backward = args[0].layer_need_backward

    def fits(self):
        return super().fits() and bool(self.conv.on_device) and self.conv.axis == 1

    def compute(self):
        conv, (bottom,) = self.conv, self.bottom
        conv.prepare_gpu(self.bottom, self.tops[0])
        x, moments = self.normalizer.values(self.inner.shape), self.moments()
        partial = moments.partial if moments else 0
        conv.on_device.forward(bottom.gpu_data(), conv.blobs[0].gpu_data(), x, conv.bias_gpu(), moments=partial)
        self.normalize(x, moments)

    def moments(self) -> Moments | None:
        """Where the convolution leaves the moments of its result; None if it leaves none, or they do not count."""
        parts, length = self.conv.on_device.moment_parts()
        return None if self.norm.use_global_stats or not parts else self.normalizer.room(parts, length)

    def gradients(self):
        super().gradients()
        if self.wanted and self._runs_backward[self.start]:  # the convolution's top has a gradient, and it uses it
            self.conv.backward_gpu(self.tops[0], self.propagate_down, self.bottom)
