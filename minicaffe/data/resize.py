"""`caffe.io.resize_image` in numpy: the resampling of scikit-image and SciPy, nearest, linear and cubic.

Interpolation along an axis is a weighted sum of a few old samples, the taps.  It is separable: rows are resampled
first, then columns.  Data layers and converters resize as OpenCV does: `image.resize`.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    corners, order = im.shape[-1] not in (1, 3), interp_order
    if order not in (0, 1, 3):
        raise UsageError(f"resize: interpolation order must be 0 (nearest), 1 (linear) or 3 (cubic), got {order}")
    check_size(im.shape, new_dims)
    low, high = (0.0, 0.0) if corners else (im.min(), im.max())
    if high <= low and not corners:
        return np.full((*new_dims, im.shape[-1]), low, np.float32)
    rows, columns = (_taps(old, new, order, corners) for old, new in zip(im.shape, new_dims))
    result = np.empty((*new_dims, im.shape[-1]), np.float32)
    for channel in range(im.shape[-1]):  # one by one: a plane in float64 fits into the cache
        values = np.subtract(im[:, :, channel], low, dtype=np.float64)  # so that the value outside is 0
        values = _resample_axis(_resample_axis(values, 0, rows), 1, columns) + low
        result[:, :, channel] = values if corners else values.clip(low, high)
    return result


def check_size(shape: Sequence[int], new_dims: tuple[int, int]) -> None:
    """Raise UsageError unless an image (H, W, C) can be resized to `new_dims`: positive, and not too many pixels."""
    if min(new_dims) < 1 or min(shape[:2]) < 1:
        raise UsageError(f"resize: cannot make {new_dims[0]}x{new_dims[1]} of an image of shape {tuple(shape)}")
    if new_dims[0] * new_dims[1] > limits.max_pixels():
        raise UsageError(
            f"resize: an image of {new_dims[0]}x{new_dims[1]} has more than {limits.max_pixels()} pixels: "
            "the environment variable MINICAFFE_MAX_PIXELS raises this limit"
        )


def _resample_axis(values: np.ndarray, axis: int, taps: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Resample float64 values (H, W) along one axis; without taps, return them as they are."""
    out = values
    for number, (index, weight) in enumerate(taps):
        taken = values.take(index, axis)
        taken *= weight if axis else weight[:, None]
        out = np.add(out, taken, out=out) if number else taken
    return out


def _taps(old: int, new: int, order: int, corners: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (old indices, weights) of each tap of an axis, (new,) each; none if its length does not change.

    corners: True maps the first and last samples to the first and last pixels, and taps outside the image are its edge;
    False maps pixel centres, and taps outside have weight 0.
    """
    if old == new:
        return []
    at = np.arange(new, dtype=np.float64)
    at = at * ((old - 1) / max(new - 1, 1)) if corners else (at + 0.5) * (old / new) - 0.5
    return [
        (index.clip(0, old - 1), weight if corners else np.where((index >= 0) & (index < old), weight, 0.0))
        for index, weight in _kernel(at, order)
    ]


def _kernel(at: np.ndarray, order: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (old indices, weights) of each tap, for new samples at the positions `at` of the old axis."""
    if order == 0:
        return [(np.floor(at + 0.5).astype(int), np.ones_like(at))]
    low = np.floor(at)
    first, t = low.astype(int), at - low
    if order == 1:
        return [(first, 1 - t), (first + 1, t)]
    weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
    return [(first - 1 + k, w / 2) for k, w in enumerate(weights)]
