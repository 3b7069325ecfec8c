"""Groups of layers that several engines compute as one, and what is the same in all of them.

    Convolution, ReLU
    Eltwise (sum of two), ReLU
    Convolution, BatchNorm, Scale, ReLU in TEST    folded into a convolution with other weights and another bias
    BatchNorm, Scale, ReLU

These layers are bandwidth-bound; fused, they read and write each value once.  An engine derives from the classes below
and gives the primitives or kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.fusion import Fused
from minicaffe.proto import TEST
from minicaffe.proto.caffe_pb2 import EltwiseParameter


class EndsInReLU(Fused):
    """A group whose last layer is a ReLU, or may be one; `relu` is None where there is none."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.relu = self.layer_for("ReLU")

    def fits(self) -> bool:
        """Whether there is no ReLU that reads its bottom in backward, as one with a negative slope does."""
        return self.relu is None or self.relu.kept_blobs is None


class ConvolutionReLU(EndsInReLU):
    """Backward each layer runs by itself: the ReLU reads its top alone."""

    patterns: tuple[str, ...] = ("Convolution ReLU",)


class SumReLU(EndsInReLU):
    """An Eltwise sum of two blobs and its ReLU; backward each runs by itself."""

    patterns = ("Eltwise ReLU",)

    def fits(self) -> bool:
        return super().fits() and adds_two(self.layers[0])


def adds_two(eltwise: Any) -> bool:
    """Whether an Eltwise is a sum of two blobs, with whatever coefficients."""
    return eltwise.operation == EltwiseParameter.SUM and len(eltwise.coeffs) == 2


class FoldedConvolution(EndsInReLU):
    """A convolution in TEST that computes BatchNorm and Scale too, by other weights and another bias (`folded`).

    The Scale's bottom is not computed.  Only the gradient of its factor needs it.
    """

    patterns: tuple[str, ...] = ("Convolution BatchNorm [Scale] [ReLU]",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.conv, self.norm, self.scale = self.layers[0], self.layer_for("BatchNorm"), self.layer_for("Scale")

    def fits(self) -> bool:
        return super().fits() and self.norm.use_global_stats and self.norm.phase == TEST


def folded(w: np.ndarray, b: Any, mean: np.ndarray, variance: np.ndarray, eps: float, s: Any, t: Any) -> tuple:
    """(weights, bias) of the convolution y = s (w * x + b - mean) / sqrt(variance + eps) + t.

    w: (O, C, *kernel); mean, variance: (O,); b, s, t: (O,) or one number, of the convolution's bias and the Scale.
    On the device the kernel `fold` of cuda/batch_norm.cu computes the same.
    """
    factor = s / np.sqrt(variance + np.float32(eps))
    return w * factor.reshape(-1, *[1] * (w.ndim - 1)), (b - mean) * factor + t


class Normalization(EndsInReLU):
    """BatchNorm with the Scale and the ReLU behind it, forward and backward.

    The gradient of a ReLU goes by the signs of its top as it is when backward runs, that of the group by those of the
    forward pass: where blobs in `sign_sources` have been written to since, the layers run backward one by one.
    """

    patterns = ("BatchNorm Scale [ReLU]", "BatchNorm ReLU")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.norm, self.scale = self.layers[0], self.layer_for("Scale")
        self.in_place = self.bottom[0] is self.top[0] and self.propagate_down[0]
        self._signs: list[object] = []

    @property
    def kept(self) -> Blob | None:
        """Where the Scale keeps its bottom for its own backward pass; None if it does not."""
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
        """Bring the top's diff to what ReLU and Scale in place leave there: dy where y > 0, times the factor."""
        raise NotImplementedError


def scales_channels(scale: Any, shape: tuple[int, ...]) -> bool:
    """Whether there is no Scale, or a learned one with a number for each channel of (N, C, ...)."""
    return scale is None or (scale.learned and scale.covered == shape[1] and scale.outer == shape[0])
