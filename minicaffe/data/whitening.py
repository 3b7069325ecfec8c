"""Whitening and standardising: linear transforms after which the values of images have unit variance.

With mean m and covariance C = U diag(s) U^T of the vectors x of a data set, eigenvalues s in descending order:

    mean    y = x - m
    std     y_i = (x_i - m_i) / sqrt(C_ii + eps)
    pca     y = diag(1 / sqrt(s + eps)) U^T (x - m), of which the first components may be kept alone
    zca     y = U diag(1 / sqrt(s + eps)) U^T (x - m), of all such y the one nearest to x - m

C is the unbiased estimate, divided by the number of vectors - 1.  With eps = 0 the covariance of y is the identity; a
larger eps amplifies directions of small variance less, which hold noise mostly.

The vectors are whole images, or all k x k patches; the transform is then a convolution.  ZCA of patches maps each pixel
to the centre of the whitened patch around it: its filters are the rows of the matrix that belong to the centre, one for
each channel.  At the border, what is outside the image counts as the mean of its channel.  Inside, the values of the
channels at one pixel have unit covariance; those of neighbouring pixels, which come from different patches, are only
nearly uncorrelated.

Bell and Sejnowski, "The independent components of natural scenes are edge filters", 1997 (ZCA); Krizhevsky, "Learning
multiple layers of features from tiny images", 2009, appendix A (ZCA of CIFAR's images).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minicaffe.errors import DataError, UsageError, nearest

KINDS = ("mean", "std", "pca", "zca")


@dataclass(frozen=True)
class Method:
    """Which transform, of which vectors.

    kind: "mean", "std", "pca" or "zca" (default).
    patch: side k of the patches; None (default): vectors are whole images; 1: pixels, vectors of one value per channel.
    stride: step between patches in pixels (default 1).  A PCA is applied at this step; a ZCA at every pixel.
    per_channel: treat each channel by itself, as if channels were not correlated (default False; pca and zca).
    components: how many components of a PCA are kept, per channel if `per_channel`; None (default): all.
    eps: added to the eigenvalues or variances, in squared units of the data (default 0).
    UsageError for values that are invalid or contradict each other.
    """

    kind: str = "zca"
    patch: int | None = None
    stride: int = 1
    per_channel: bool = False
    components: int | None = None
    eps: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f'kind must be {", ".join(KINDS)}, got "{self.kind}"{nearest(self.kind, KINDS)}')
        for name, value in (("patch", self.patch), ("stride", self.stride), ("components", self.components)):
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.eps < math.inf:
            raise UsageError(f"eps must be a number from 0 on, got {self.eps}")
        for wrong, text in self._contradictions():
            if wrong:
                raise UsageError(text)

    def _contradictions(self) -> Iterator[tuple[bool, str]]:
        """Yield for each pair of options that exclude each other whether it is given, and the error."""
        kind, patch = self.kind, self.patch or 1
        yield self.stride > 1 and self.patch is None, "stride is the step between patches: give patch, too"
        yield self.components is not None and kind != "pca", f"components are kept of kind pca, not of kind {kind}"
        yield self.eps > 0 and kind == "mean", "kind mean divides by nothing, so it takes no eps"
        yield self.is_diagonal and patch > 1, f"kind {kind} takes patch 1, that is per channel, got {patch}"
        alone = f"kind {kind} treats each value by itself: per_channel has no effect; patch 1 is per channel"
        yield self.is_diagonal and self.per_channel, alone
        yield kind == "zca" and patch % 2 == 0, f"a patch of a ZCA has a centre, so its side is odd, got {patch}"

    @property
    def is_diagonal(self) -> bool:
        """Whether each value is transformed by itself."""
        return self.kind in ("mean", "std")

    def kernel(self, image_shape: tuple[int, ...]) -> tuple[int, int]:
        """Return height and width of a vector's part of an image (C, H, W)."""
        return (self.patch, self.patch) if self.patch else (image_shape[1], image_shape[2])

    def vectors(self, images: np.ndarray) -> np.ndarray:
        """Return the vectors of images (N, C, H, W): (number, groups, length); groups are channels, or one."""
        return _vectors(images, self.kernel(images.shape[1:]), self.stride, self.per_channel)


class Filters(NamedTuple):
    """A whitening as a convolution, in float64."""

    kernels: np.ndarray  #: (outputs, channels per group, h, w)
    bias: np.ndarray  #: (outputs,)
    centre: np.ndarray | None  #: (C,), subtracted before zeros are padded; None: nothing is
    pad: int
    stride: int
    groups: int


@dataclass(frozen=True)
class Whitening:
    """The statistics of a data set, and the transform that follows from them; arrays are float64.

    G is the number of groups (channels with `method.per_channel`, otherwise 1), d the length of a vector, n the number
    of components.
    """

    method: Method
    image_shape: tuple[int, int, int]  #: (C, H, W)
    count: int  #: number of vectors
    mean: np.ndarray  #: (G, d)
    eigenvalues: np.ndarray  #: (G, d) in descending order; of kinds mean and std: the variances of the values
    matrix: np.ndarray  #: (G, n, d), rows are filters; of kinds mean and std (1, d), the factors of the values

    def output_shape(self, image_shape: tuple[int, ...] | None = None) -> tuple[int, int, int]:
        """Return the shape of a transformed image: (C, H, W), or (G n, h, w) of kind pca.

        image_shape: (C, H, W); None (default): that of the data set.  DataError for an image that does not fit.
        """
        channels, height, width = image_shape or self.image_shape
        kernel = self.method.kernel(self.image_shape)
        fits = height >= kernel[0] and width >= kernel[1] if self.method.patch else (height, width) == kernel
        if channels != self.image_shape[0] or not fits:
            raise DataError(
                f"the whitening was computed from {images_of(self.method)} of shape {self.image_shape}, "
                f"which does not fit an image of shape {(channels, height, width)}"
            )
        if self.method.kind != "pca":
            return channels, height, width
        stride = self.method.stride
        groups, components, _ = self.matrix.shape
        return groups * components, (height - kernel[0]) // stride + 1, (width - kernel[1]) // stride + 1

    def filters(self) -> Filters:
        """Return the transform of kind pca or zca as a convolution."""
        rows, mean, centre = self.matrix, self.mean, None
        channels, (height, width) = self.image_shape[0], self.method.kernel(self.image_shape)
        pad, stride = 0, self.method.stride
        if self.method.kind == "zca" and self.method.patch:
            rows, stride, pad = rows[:, height * width // 2 :: height * width], 1, height // 2
        if pad:
            by_channel = mean.reshape(channels, height * width)
            centre = by_channel.mean(1)
            mean = (by_channel - centre[:, None]).reshape(mean.shape)
        bias = -np.matmul(rows, mean[:, :, None]).ravel()
        return Filters(rows.reshape(len(bias), -1, height, width), bias, centre, pad, stride, len(rows))

    def transform(self, images: np.ndarray) -> np.ndarray:
        """Return images (N, C, H, W), transformed: (N, *output_shape) in float64; DataError if they do not fit."""
        shape = self.output_shape(images.shape[1:])
        images = images.astype(np.float64)
        if self.method.is_diagonal:
            form = self.image_shape[0], *self.method.kernel(self.image_shape)
            return (images - self.mean.reshape(form)) * self.matrix.reshape(form)
        kernels, bias, centre, pad, stride, groups = self.filters()
        if centre is not None:
            images = np.pad(images - centre[:, None, None], ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        vectors = _vectors(images, kernels.shape[2:], stride, groups > 1).transpose(1, 0, 2)
        out = np.matmul(vectors, kernels.reshape(groups, -1, vectors.shape[2]).transpose(0, 2, 1))
        out = out.transpose(1, 0, 2).reshape(len(images), -1, len(bias)) + bias
        return out.transpose(0, 2, 1).reshape(len(images), *shape)


def _vectors(images: np.ndarray, kernel: tuple[int, ...], stride: int, per_channel: bool) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(images, kernel, axis=(2, 3))[:, :, ::stride, ::stride]
    length = kernel[0] * kernel[1] * (1 if per_channel else images.shape[1])
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1] if per_channel else 1, length)


def images_of(method: Method) -> str:
    """Return "images", or "5x5 patches of images", for messages."""
    return f"{method.patch}x{method.patch} patches of images" if method.patch else "images"
