"""Pooling with activations, which CUDA kernels compute as one, forward and backward.

Pooling, ReLU, Sigmoid or TanH      the activation in place on the pooling's top
ReLU, Sigmoid or TanH, Pooling      the activation in front of it
Convolution, ReLU, Pooling          is in minicaffe.layers.fused.cuda; its pooling runs backward as here
"""

from __future__ import annotations

from minicaffe.core.fusion import Fused, fuses
from minicaffe.cuda.pooling import Activation, CudaPooling

_KINDS = {"ReLU": 1, "Sigmoid": 2, "TanH": 3}  # as in pooling.cu


def activation(layer) -> Activation:
    """The form in which the kernels of pooling take an activation."""
    return Activation(_KINDS[layer.type], getattr(layer, "negative_slope", 0.0))


def takes_activations(pooling) -> bool:
    """Whether a Pooling runs in the kernels that compute activations too."""
    planar = isinstance(pooling.on_device, CudaPooling)
    return planar and pooling.pool != "STOCHASTIC" and not pooling.on_whole_planes


def pooling_gradient(pooling, bottom, top, **activations) -> None:
    """The backward pass of a Pooling with activations, as of `CudaPooling.backward`, from their diffs."""
    dy = top.mutable_gpu_diff() if "behind" in activations else top.gpu_diff()
    pooling.on_device.backward(dy, bottom.mutable_gpu_diff(), pooling.mask or 0, **activations)


class _WithActivation(Fused):
    """Base class of an activation and a Pooling, in either order."""

    def __init__(self, *args):
        super().__init__(*args)
        self._runs_backward = args[0].layer_need_backward
        self.pooling = self.layer_for("Pooling")
        (self.activation,) = (layer for layer in self.layers if layer is not self.pooling)

    def fits(self):
        alone = all(layer.kept_blobs is None for layer in self.layers)
        return alone and takes_activations(self.pooling) and getattr(self.activation, "negative_slope", 0) >= 0

    @property
    def runs_backward(self):
        return all(map(all, self.needs)) and all(self._runs_backward[self.start : self.end + 1]) and self.intact


@fuses("CUDA")
class CudaPoolingActivation(_WithActivation):
    """A Pooling and the activation in place on its top."""

    patterns = ("Pooling ReLU", "Pooling Sigmoid", "Pooling TanH")

    def fits(self):
        return super().fits() and len(self.tops[0]) == 1

    def possible(self):
        return self.bottom[0].count > 0 and self.pooling.on_device.fits_behind()

    def compute(self):
        x, y = self.bottom[0].gpu_data(), self.top[0].mutable_gpu_data()
        self.pooling.on_device.forward(x, y, *self.pooling.masks_gpu(self.top), behind=activation(self.activation))

    def gradients(self):
        (bottom,), (top,) = self.bottom, self.top
        pooling_gradient(self.pooling, bottom, top, behind=activation(self.activation), y=top.gpu_data())


@fuses("CUDA")
class CudaActivationPooling(_WithActivation):
    """An activation and the Pooling that alone reads its top."""

    patterns = ("ReLU +Pooling", "Sigmoid +Pooling", "TanH +Pooling")

    def possible(self):
        return self.bottom[0].count > 0 and self.pooling.on_device.fits_in_front()

    def compute(self):
        x, acted, y = self.bottom[0].gpu_data(), self.tops[0][0].mutable_gpu_data(), self.top[0].mutable_gpu_data()
        masks, front = self.pooling.masks_gpu(self.top), activation(self.activation)
        self.pooling.on_device.forward(x, y, *masks, front=front, acted=acted)

    def gradients(self):
        (bottom,), (acted,), (top,) = self.bottom, self.tops[0], self.top[:1]
        read = bottom if "bottom" in self.activation.backward_reads else acted
        pooled = acted.mutable_gpu_diff() if acted is not bottom else 0
        front = {"front": activation(self.activation), "x": read.gpu_data(), "pooled": pooled}
        pooling_gradient(self.pooling, bottom, top, **front)
