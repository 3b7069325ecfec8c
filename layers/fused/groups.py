"""Groups of layers that several engines compute as one: their patterns, and the code that all engines share.

    Convolution, ReLU
    Eltwise (sum of two), ReLU
    Convolution, BatchNorm, Scale, ReLU in TEST    folded into a convolution with other weights and another bias
    BatchNorm, Scale, ReLU

These layers are bandwidth-bound; fused, they read and write each value once.  An engine's classes are
subclasses of those below and add the primitives or kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.fusion import Fused
from minicaffe.proto import TEST
from minicaffe.proto.caffe_pb2 import EltwiseParameter


class EndsInReLU(Fused):
    """A group that ends in a ReLU, or may; `relu` is None where it does not."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.relu = self.layer_for("ReLU")

    def fits(self) -> bool:
        """Whether the ReLU, if any, does not read its bottom in backward; with a negative slope it does."""
        return self.relu is None or self.relu.kept_blobs is None


class ConvolutionReLU(EndsInReLU):
    """A Convolution or InnerProduct and its ReLU; they run backward one by one, as the ReLU reads only its top."""

    patterns: tuple[str, ...] = ("Convolution ReLU",)


class SumReLU(EndsInReLU):
    """An Eltwise sum of two blobs and its ReLU; they run backward one by one."""

    patterns: tuple[str, ...] = ("Eltwise ReLU",)

    def fits(self) -> bool:
        return super().fits() and adds_two(self.layers[0])


def adds_two(eltwise: Any) -> bool:
    """Whether an Eltwise is a sum of two blobs, with any coefficients."""
    return eltwise.operation == EltwiseParameter.SUM and len(eltwise.coeffs) == 2


class FoldedConvolution(EndsInReLU):
    """A convolution in TEST with BatchNorm and Scale folded into its weights and bias (`folded`).

    The Scale's bottom is not computed; only the gradient of the Scale's factor needs it.
    """

    patterns: tuple[str, ...] = ("Convolution BatchNorm [Scale] [ReLU]",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.conv, self.norm, self.scale = self.layers[0], self.layer_for("BatchNorm"), self.layer_for("Scale")

    def fits(self) -> bool:
        return super().fits() and self.norm.use_global_stats and self.norm.phase == TEST


def folded(w: np.ndarray, b: Any, mean: np.ndarray, variance: np.ndarray, eps: float, s: Any, t: Any) -> tuple:
    """(weights, bias) of the convolution y = s (w * x + b - mean) / sqrt(variance + eps) + t.

    w: (O, C, *kernel); mean, variance: (O,); b, s, t: the convolution's bias and the Scale's factor and term, (O,) or
        one number each.
    The kernel `fold` of cuda/batch_norm.cu computes the same on the device.
    """
    factor, bias = scaling(b, mean, variance, eps, s, t)
    return w * factor.reshape(-1, *[1] * (w.ndim - 1)), bias


def scaling(b: Any, mean: np.ndarray, variance: np.ndarray, eps: float, s: Any, t: Any) -> tuple:
    """(factor, bias), both (O,), with which that is y = factor (w * x) + bias."""
    factor = s / np.sqrt(variance + np.float32(eps))
    return factor, (b - mean) * factor + t


class Normalization(EndsInReLU):
    """BatchNorm with the Scale and the ReLU behind it, forward and backward.

    The ReLU's gradient depends on the signs of its top when backward runs, that of the group on those of the forward
    pass: if blobs in `sign_sources` were written to in between, the layers run backward one by one.
    """

    patterns: tuple[str, ...] = ("BatchNorm Scale [ReLU]", "BatchNorm ReLU")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.norm, self.scale = self.layer_for("BatchNorm"), self.layer_for("Scale")
        self.in_place = self.bottom[0] is self.top[0] and self.propagate_down[0]
        self._signs: list[object] = []

    @property
    def kept(self) -> Blob | None:
        """The blob in which the Scale keeps its bottom for its own backward pass; None if it does not."""
        return self.scale.kept_blobs.bottoms[0] if self.scale and self.scale.kept_blobs else None

    def sign_sources(self) -> list[Blob]:
        """The blobs on whose data the signs of the ReLU's top depend."""
        return self.top

    def _versions(self) -> list[object]:
        return [blob.data_memory.version for blob in self.sign_sources()] if self.relu else []

    def finish(self) -> None:
        self._signs = self._versions()

    @property
    def runs_backward(self) -> bool:
        return self.intact and self._signs == self._versions()

    def gradients(self) -> None:
        self.bottom_gradient()
        if not self.in_place:  # in place the bottom's diff has replaced it
            self.top_gradient()

    def bottom_gradient(self) -> None:
        """Compute the bottom's diff, if it is needed, and add to the diffs of the Scale's parameters."""
        raise NotImplementedError

    def top_gradient(self) -> None:
        """Change the top's diff as ReLU and Scale in place do: dy where y > 0, times the factor."""
        raise NotImplementedError


def scales_channels(scale: Any, shape: tuple[int, ...]) -> bool:
    """Whether there is no Scale, or one with a learned factor for each channel of `shape`, (N, C, ...)."""
    return scale is None or (scale.learned and scale.covered == shape[1] and scale.outer == shape[0])
