"""Resampling of images in numpy: nearest, linear and cubic, one axis after the other.

Interpolation along an axis is a small weighted sum: each new sample reads `taps` old ones.  Both axes separate, so
an image is resampled with two such sums, rows first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicaffe.data.arrays import as_image, height_and_width
from minicaffe.errors import UsageError


def resize_image(im: np.ndarray, new_dims: Sequence[int], interp_order: int = 1) -> np.ndarray:
    """The image (H, W, K) at `new_dims` = (height, width), float32.

    interp_order: 0 nearest, 1 linear (default), 3 cubic.  Where the samples lie depends on K, as in the original:

    - 1 or 3 channels: at pixel centres, in = (out + 0.5) * old / new - 0.5, and beyond the border lies the image's
      minimum.  This is `skimage.transform.resize(..., mode="constant")` without its later `anti_aliasing`; cubic is
      its former Catmull-Rom kernel, where newer versions fit a spline.
    - otherwise: corners on corners, in = out * (old - 1) / (new - 1), as `scipy.ndimage.zoom` does; cubic is
      Catmull-Rom again, where scipy fits a spline.

    UsageError for another order, and for sizes that no image has.
    """
    im, new_dims = as_image(im, "resize_image"), height_and_width(new_dims, "resize_image: new_dims")
    if im.shape[-1] not in (1, 3):
        return resample(im, new_dims, interp_order, corners=True).astype(np.float32)
    low, high = im.min(), im.max()
    if high <= low:
        return np.full((*new_dims, im.shape[-1]), low, np.float32)
    return resample(im, new_dims, interp_order, border=low).clip(low, high).astype(np.float32)


def resample(
    im: np.ndarray, new_dims: tuple[int, int], order: int, corners: bool = False, border: float | None = None
) -> np.ndarray:
    """The image (H, W, ...) sampled at (height, width) = `new_dims`, in float64.

    order: 0 nearest, 1 linear, 3 cubic (Catmull-Rom: a = -1/2).  corners: the first and last samples fall on the
    first and last pixels; else pixels are areas, and their centres are mapped.  border: the value beyond the image,
    or None to repeat its edge.
    """
    if order not in (0, 1, 3):
        raise UsageError(f"resize: interpolation order must be 0 (nearest), 1 (linear) or 3 (cubic), got {order}")
    if min(new_dims) < 1 or min(im.shape[:2]) < 1:
        raise UsageError(f"resize: cannot make {new_dims[0]}x{new_dims[1]} of an image of shape {im.shape}")
    out = np.asarray(im, np.float64) - (border or 0.0)  # shifted, so that beyond the border lies zero
    for axis in (0, 1):
        out = _resample_axis(out, axis, new_dims[axis], order, corners, border is not None)
    return out + (border or 0.0)


def _resample_axis(im: np.ndarray, axis: int, new: int, order: int, corners: bool, zero_beyond: bool) -> np.ndarray:
    old = im.shape[axis]
    if old == new:
        return im
    at = np.arange(new, dtype=np.float64)
    at = at * ((old - 1) / max(new - 1, 1)) if corners else (at + 0.5) * (old / new) - 0.5
    shape = [1] * im.ndim
    shape[axis] = new
    out: Any = 0.0
    for index, weight in _taps(at, order):
        if zero_beyond:
            weight = np.where((index >= 0) & (index < old), weight, 0.0)
        out = out + im.take(index.clip(0, old - 1), axis) * weight.reshape(shape)
    return out


def _taps(at: np.ndarray, order: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(old index, weight) of each old sample that a new sample at position `at` reads."""
    if order == 0:
        return [(np.floor(at + 0.5).astype(int), np.ones_like(at))]
    low = np.floor(at)
    first, t = low.astype(int), at - low
    if order == 1:
        return [(first, 1 - t), (first + 1, t)]
    weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
    return [(first - 1 + k, w / 2) for k, w in enumerate(weights)]
