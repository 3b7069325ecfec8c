"""Resampling of images in numpy: nearest, linear and cubic.

Interpolation along an axis is a weighted sum of a few old samples, the taps.  It is separable: rows are resampled
first, then columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from minicaffe import limits
from minicaffe.data.arrays import as_image, height_and_width
from minicaffe.errors import UsageError

_BLOCK = 1 << 15  # values in float64 between the two axes, so that they stay in the cache


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
    corners = im.shape[-1] not in (1, 3)
    _check_pixels(*new_dims)
    low, high = (0.0, 0.0) if corners else (im.min(), im.max())
    if high <= low and not corners:
        return np.full((*new_dims, im.shape[-1]), low, np.float32)
    planes = resampled_planes(im.transpose(2, 0, 1), new_dims, interp_order, corners, None if corners else low)
    result = np.empty((*new_dims, im.shape[-1]), np.float32)
    for channel, values in enumerate(planes):
        result[:, :, channel] = values if corners else values.clip(low, high)
    return result


def resampled_planes(
    planes: np.ndarray,
    new_dims: tuple[int, int],
    order: int,
    corners: bool = False,
    border: float | None = None,
) -> Iterator[np.ndarray]:
    """Resample planes (C, H, W) to `new_dims` = (height, width); return an iterator over them, float64.

    order: 0 nearest, 1 linear, 3 cubic (Catmull-Rom: a = -1/2).
    corners: True maps the first and last samples to the first and last pixels; False (default) maps pixel centres.
    border: the value outside the image; None (default) repeats the edge.
    UsageError for another order, for sizes below 1, and for more pixels than `limits.max_pixels`.
    """
    _check(planes.shape, new_dims, order)
    shift = border or 0.0  # subtracted in between, so that the value outside is 0
    rows, columns = (
        _taps(old, new, order, corners, border is not None) for old, new in zip(planes.shape[1:], new_dims, strict=True)
    )

    def resampled(plane: np.ndarray) -> np.ndarray:
        values = np.subtract(plane, shift, dtype=np.float64)
        return _resample_axis(_resample_axis(values, 0, rows), 1, columns) + shift

    return map(resampled, planes)  # one by one: a plane in float64 fits into the cache


def resized_bytes(planes: np.ndarray, new_dims: tuple[int, int], order: int) -> np.ndarray:
    """Resample planes (C, H, W) of uint8; return the values of `resampled_planes` rounded, uint8 (C, height, width).

    The numbers are the same.  A view of pixels (H, W, C), as decoders return it, is resampled in that order, all
    channels at once.  order and errors as there.
    """
    _check(planes.shape, new_dims, order)
    pixels = planes.transpose(1, 2, 0)
    is_reversed = pixels.strides[2] < 0
    pixels = pixels[:, :, ::-1] if is_reversed else pixels
    if pixels.flags.c_contiguous:
        resized = _resized_pixels(pixels, new_dims, order)
        resized = (resized[:, :, ::-1] if is_reversed else resized).transpose(2, 0, 1)
        return np.ascontiguousarray(resized)
    return np.stack([_resized_pixels(np.ascontiguousarray(plane[:, :, None]), new_dims, order)[:, :, 0]
                     for plane in planes])  # fmt: skip


def _resized_pixels(pixels: np.ndarray, new_dims: tuple[int, int], order: int) -> np.ndarray:
    """Resample contiguous pixels (H, W, C), a block of rows after the other."""
    (height, width, channels), result = pixels.shape, np.empty((*new_dims, pixels.shape[2]), np.uint8)
    lines, out = pixels.reshape(height, width * channels), result.reshape(len(result), -1)
    rows = _taps(height, new_dims[0], order, False, False)
    columns = [
        ((index[:, None] * channels + np.arange(channels)).ravel(), weight.repeat(channels))
        for index, weight in _taps(width, new_dims[1], order, False, False)
    ]
    step = max(1, _BLOCK // lines.shape[1])
    for y in range(0, len(out), step):
        block = slice(y, y + step)
        if rows:
            values = _weighted_sum(
                np.multiply(lines[index[block]], weight[block, None], dtype=np.float64) for index, weight in rows
            )
        else:
            values = lines[block].astype(np.float64)
        if columns:
            old = values
            values = _weighted_sum(old.take(index, 1, mode="clip") * weight for index, weight in columns)
        np.rint(values, out=values).clip(0, 255, out=values)
        out[block] = values
    return result


def _weighted_sum(terms: Iterator[np.ndarray]) -> np.ndarray:
    total = next(terms)
    for term in terms:
        total += term
    return total


def _check(shape: Sequence[int], new_dims: tuple[int, int], order: int) -> None:
    """Raise UsageError for planes (C, H, W) of a shape, a new size and an order that cannot be resampled."""
    if order not in (0, 1, 3):
        raise UsageError(f"resize: interpolation order must be 0 (nearest), 1 (linear) or 3 (cubic), got {order}")
    if min(new_dims) < 1 or min(shape[1:]) < 1:
        raise UsageError(
            f"resize: cannot make {new_dims[0]}x{new_dims[1]} of an image of shape {(*shape[1:], shape[0])}"
        )
    _check_pixels(*new_dims)


def _check_pixels(height: int, width: int) -> None:
    if height * width > limits.max_pixels():
        raise UsageError(
            f"resize: an image of {height}x{width} has more than {limits.max_pixels()} pixels: "
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


def _taps(old: int, new: int, order: int, corners: bool, zero_beyond: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (old indices, weights) of each tap of an axis, (new,) each; none if its length does not change.

    zero_beyond: indices outside of the image have weight 0; otherwise they stand for the edge.
    """
    if old == new:
        return []
    at = np.arange(new, dtype=np.float64)
    at = at * ((old - 1) / max(new - 1, 1)) if corners else (at + 0.5) * (old / new) - 0.5
    return [
        (index.clip(0, old - 1), np.where((index >= 0) & (index < old), weight, 0.0) if zero_beyond else weight)
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
