"""Layers that CUDA kernels compute as one.

Convolution, BatchNorm, Scale, ReLU   in TEST      statistics and scale folded into the weights, ReLU as below
Convolution, ReLU, Pooling                         ReLU done while storing; its gradient with the pooling's
Eltwise (sum of two), ReLU                         one kernel
BatchNorm, Scale, ReLU                             one kernel after the statistics; two for all gradients
"""

from __future__ import annotations

from minicaffe.core.blob import Blob
from minicaffe.core.fusion import fuses
from minicaffe.cuda.memory import GPU
from minicaffe.layers.fused import groups
from minicaffe.layers.fused.cuda_pooling import activation, all_need_gradients, pooling_gradient, takes_activations
from minicaffe.layers.fused.groups import scales_channels


class CudaFused(groups.EndsInReLU):
    """Base class of this engine's groups."""

    also = ("CUDNN",)  # these variants differ in the products that `on_device` computes

    def possible(self):
        return self.bottom[0].count > 0

    def slope(self) -> float | None:
        """The ReLU's slope; None without one."""
        return self.relu.negative_slope if self.relu else None


def scale_pointers(scale) -> tuple[int, int]:
    """The device addresses of a Scale's factor and term; 0 for one that it does not have."""
    blobs = [blob.gpu_data() for blob in scale.blobs] if scale else []
    return tuple([*blobs, 0, 0][:2])


@fuses("CUDA")
class CudaFoldedConvolution(CudaFused, groups.FoldedConvolution):
    """A folded convolution; a Scale whose bottom a backward pass needs is not part of it."""

    patterns = (*groups.FoldedConvolution.patterns, "Convolution BatchNorm")

    def __init__(self, *args):
        super().__init__(*args)
        self.weights = Blob((), self.conv.dtype)
        self.bias = Blob((), self.conv.dtype)

    def fits(self):
        needed = self.scale is not None and self.scale.kept_blobs is not None
        return super().fits() and bool(self.conv.on_device) and not needed

    def possible(self):
        return super().possible() and scales_channels(self.scale, self.top[0].shape)

    def compute(self):
        conv, norm, (bottom,), (top,) = self.conv, self.norm, self.bottom, self.top
        conv.prepare_gpu(self.bottom, self.top)
        self.weights.reshape(conv.blobs[0].shape)
        self.bias.reshape(conv.num_output)
        mean, deviation = norm.statistics_gpu(self.top)
        w, b = self.weights.mutable_gpu_data(), self.bias.mutable_gpu_data()
        n, length = self.weights.count, self.weights.count_range(1)
        arguments = (conv.blobs[0].gpu_data(), conv.bias_gpu(), mean, deviation, *scale_pointers(self.scale))
        norm.kernel("fold")(n, length, *arguments, w, b)
        conv.on_device.forward(bottom.gpu_data(), w, top.mutable_gpu_data(), b, self.slope())


@fuses("CUDA")
class CudaConvolutionReLU(CudaFused, groups.ConvolutionReLU):
    """A Convolution, its ReLU, and a Pooling; without a Pooling they run backward one by one."""

    patterns = ("Convolution ReLU +Pooling", *groups.ConvolutionReLU.patterns)

    def __init__(self, net, start, count, runner):
        super().__init__(net, start, count, runner)
        self.pooling = self.layer_for("Pooling")
        self._wanted = all_need_gradients(net, start, count)

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
        return self.pooling is not None and self._wanted and self.intact

    def gradients(self):
        (top,) = self.tops[0]
        pooling_gradient(self.pooling, top, self.top[0], front=activation(self.relu), x=top.gpu_data())
        self.layers[0].backward_gpu(self.tops[0], self.propagate_down, self.bottom)


@fuses("CUDA")
class CudaSumReLU(CudaFused, groups.SumReLU):
    __doc__ = groups.SumReLU.__doc__

    def compute(self):
        eltwise, y = self.layers[0], self.top[0].mutable_gpu_data()
        (alpha, beta), (a, b) = eltwise.coeffs, (blob.gpu_data() for blob in self.bottom)
        eltwise.kernel("sum_relu")(self.top[0].count, alpha, a, beta, b, self.slope(), y)


@fuses("CUDA")
class CudaNormalization(CudaFused, groups.Normalization):
    """BatchNorm with the Scale and the ReLU behind it; with global statistics they run backward one by one."""

    def __init__(self, *args):
        super().__init__(*args)
        self.normalized = Blob((), self.norm.dtype)  # the BatchNorm's output

    def possible(self):
        return super().possible() and scales_channels(self.scale, self.top[0].shape)

    def followers(self) -> tuple:
        """Arguments of BatchNorm's kernels: addresses of factor and term, whether there is a ReLU, its slope."""
        return (*scale_pointers(self.scale), self.relu is not None, self.slope() or 0.0)

    def compute(self):
        norm = self.norm
        needed = not norm.use_global_stats or self.kept is not None
        self.normalized.reshape(self.top[0].shape)
        normalized = self.normalized.mutable_gpu_data() if needed else 0
        norm.normalize_gpu(self.bottom, self.top, normalized, self.followers())

    def sign_sources(self):
        return [*self.top, *(self.scale.blobs if self.scale else [])]

    @property
    def runs_backward(self):
        return not self.norm.use_global_stats and super().runs_backward

    def bottom_gradient(self):
        ds = db = 0
        if self.scale:
            pairs = zip(self.scale.blobs, self.scale.param_propagate_down, strict=True)
            ds, db = [*(blob.mutable_gpu_diff() if wanted else 0 for blob, wanted in pairs), 0][:2]
        wanted, followers = self.propagate_down[0], self.followers()
        self.norm.gradients_gpu(self.top, wanted, self.bottom, self.normalized, followers, db, ds)

    def top_gradient(self):
        (top,), c = self.top, self.norm.channels
        y, dy = self.normalized.gpu_data(), top.mutable_gpu_diff()
        self.norm.kernel("followers_gradient")(top.count, c, top.count_range(2), y, *self.followers(), dy)

    def restore(self, layer):
        if layer is self.norm and not layer.use_global_stats:
            layer.normalized.reshape(self.normalized.shape)
            GPU.keep(self.normalized, layer.normalized)
        elif layer is self.scale and self.kept is not None:
            self.kept.reshape(self.normalized.shape)
            if self.norm.use_global_stats:
                self.kept.share_data(self.normalized)  # which nothing else reads
            else:
                GPU.keep(self.normalized, self.kept)
