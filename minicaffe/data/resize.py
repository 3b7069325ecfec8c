"""Resampling of images in numpy: nearest, linear and cubic.

Interpolation along an axis is a weighted sum of a few old samples, the taps.  It is separable: rows are resampled
first, then columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicaffe import limits
from minicaffe.data.arrays import as_image, height_and_width
from minicaffe.errors import UsageError


def resize_image(im: np.ndarray, new_dims: Sequence[int], interp_order: int = 1) -> np.ndarray:
    """Resize an image (H, W, K) to `new_dims` = (height, width), in pixels; return (height, width, K) float32.

    interp_order: 0 nearest, 1 linear (default), 3 cubic.  The positions of the samples depend on K, as in the original:

    - 1 or 3 channels: pixel centres are mapped, in = (out + 0.5) * old / new - 0.5; outside the image the value is its
      minimum.  This is `skimage.transform.resize(..., mode="constant")` without its later `anti_aliasing`; cubic is
      the Catmull-Rom kernel of its old versions, where newer versions fit a spline.
    - otherwise: corners are mapped to corners, in = out * (old - 1) / (new - 1), as in `scipy.ndimage.zoom`; cubic is
      Catmull-Rom, too, where scipy fits a spline.

    UsageError for another order, and for sizes that are not positive or have more pixels than `limits.max_pixels`.
    """
    im, new_dims = as_image(im, "resize_image"), height_and_width(new_dims, "resize_image: new_dims")
    if im.shape[-1] not in (1, 3):
        return resample(im, new_dims, interp_order, corners=True).astype(np.float32)
    _check_pixels(*new_dims)
    low, high = im.min(), im.max()
    if high <= low:
        return np.full((*new_dims, im.shape[-1]), low, np.float32)
    return resample(im, new_dims, interp_order, border=low).clip(low, high).astype(np.float32)


def resample(
    im: np.ndarray, new_dims: tuple[int, int], order: int, corners: bool = False, border: float | None = None
) -> np.ndarray:
    """Resample an image (H, W, ...) to `new_dims` = (height, width); return float64.

    order: 0 nearest, 1 linear, 3 cubic (Catmull-Rom: a = -1/2).
    corners: True maps the first and last samples to the first and last pixels; False (default) maps pixel centres.
    border: the value outside the image; None (default) repeats the edge.
    UsageError for another order, for sizes below 1, and for more pixels than `limits.max_pixels`.
    """
    if order not in (0, 1, 3):
        raise UsageError(f"resize: interpolation order must be 0 (nearest), 1 (linear) or 3 (cubic), got {order}")
    if min(new_dims) < 1 or min(im.shape[:2]) < 1:
        raise UsageError(f"resize: cannot make {new_dims[0]}x{new_dims[1]} of an image of shape {im.shape}")
    _check_pixels(*new_dims)
    shift = border or 0.0  # subtracted in between, so that the value outside is 0
    rows = _resample_axis(im, shift, 0, new_dims[0], order, corners, border is not None)
    return _resample_axis(rows, 0.0, 1, new_dims[1], order, corners, border is not None) + shift


def _check_pixels(height: int, width: int) -> None:
    if height * width > limits.max_pixels():
        raise UsageError(
            f"resize: an image of {height}x{width} has more than {limits.max_pixels()} pixels: "
            "the environment variable MINICAFFE_MAX_PIXELS raises this limit"
        )


def _resample_axis(
    im: np.ndarray, shift: float, axis: int, new: int, order: int, corners: bool, zero_beyond: bool
) -> np.ndarray:
    """Resample `im - shift` along one axis; return float64.  Only the samples that are used are converted."""
    old = im.shape[axis]
    if old == new:
        return np.subtract(im, shift, dtype=np.float64)
    at = np.arange(new, dtype=np.float64)
    at = at * ((old - 1) / max(new - 1, 1)) if corners else (at + 0.5) * (old / new) - 0.5
    shape = [1] * im.ndim
    shape[axis] = new
    out: Any = 0.0
    for index, weight in _taps(at, order):
        if zero_beyond:
            weight = np.where((index >= 0) & (index < old), weight, 0.0)
        taken = im.take(index.clip(0, old - 1), axis)
        out = out + np.subtract(taken, shift, dtype=np.float64) * weight.reshape(shape)
    return out


def _taps(at: np.ndarray, order: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (old indices, weights) of each tap, for new samples at the positions `at` of the old axis."""
    if order == 0:
        return [(np.floor(at + 0.5).astype(int), np.ones_like(at))]
    low = np.floor(at)
    first, t = low.astype(int), at - low
    if order == 1:
        return [(first, 1 - t), (first + 1, t)]
    weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
    return [(first - 1 + k, w / 2) for k, w in enumerate(weights)]
