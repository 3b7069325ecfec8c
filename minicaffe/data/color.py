"""Colour spaces of 8-bit pictures (3, H, W), with OpenCV's integers: BGR, HSV, YCrCb, gray; and L*a*b*, of floats.

Source: OpenCV's `cvtColor` of 8-bit pictures; a hue is half its angle, 0 .. 179.
"""

from __future__ import annotations

import functools

import numpy as np

_HSV_BITS = 12
_YCC_BITS = 14
_GRAY_BITS = 15


def _reciprocals(scale: float) -> np.ndarray:
    """Return `scale / i` for i = 0 .. 255 with _HSV_BITS binary places, int32; 0 for i = 0."""
    table = np.zeros(256, np.int32)
    table[1:] = np.rint((scale * (1 << _HSV_BITS)) / np.arange(1, 256))
    return table


_OF_VALUE = _reciprocals(255)  # saturation: 255 (max - min) / max
_OF_RANGE = _reciprocals(180 / 6)  # hue: a sixth of the circle times (difference of two channels) / (max - min)

# Which of (value, p, q, t) are blue, green and red in each sixth of the circle of hues.
_SECTORS = np.array([(1, 3, 0), (1, 0, 2), (3, 0, 1), (0, 2, 1), (0, 1, 3), (2, 1, 0)])

_XYZ = np.array([(0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227)])
_WHITE = np.array([0.950456, 1, 1.088754])


def bgr_to_hsv(image: np.ndarray) -> np.ndarray:
    """Convert (3, H, W) uint8, BGR, to HSV, uint8: hue 0 .. 179, saturation and value 0 .. 255.

    Equal to `cv2.cvtColor(.., COLOR_BGR2HSV)` for all colours.
    """
    blue, green, red = image.astype(np.int32)
    value = image.max(0)
    spread = value - image.min(0)
    saturation = _shifted(spread * _OF_VALUE[value], _HSV_BITS)
    wide = spread.astype(np.int32)
    hue = np.where(value == image[1], blue - red + 2 * wide, red - green + 4 * wide)
    hue = _shifted(np.where(value == image[2], green - blue, hue) * _OF_RANGE[spread], _HSV_BITS)
    hue += 180 * (hue < 0)
    return np.stack([hue, saturation, value]).astype(np.uint8)


def hsv_to_bgr(image: np.ndarray) -> np.ndarray:
    """Convert (3, H, W) uint8, HSV, to BGR, uint8; hues from 180 to 255 continue the circle.

    The float32 formula, rounded to the nearest integer, as OpenCV before 3.4 has it, and later versions at the end of a
    row: equal for all colours to `cv2.cvtColor(.., COLOR_HSV2BGR)` of a picture 4 pixels wide.  In wider ones their
    vector code cuts the fraction off instead, which gives values that are 1 less.
    """
    index = np.left_shift(image[0], 8, dtype=np.uint16)
    index |= image[1]
    result = np.empty(image.shape, np.uint8)
    value = image[2] * np.float32(1 / 255)
    for channel, shares in zip(result, _shares()):
        values = shares.take(index)
        values *= value
        values *= np.float32(255)
        np.rint(values, out=values)
        np.copyto(channel, values, casting="unsafe")
    return result


@functools.cache
def _shares() -> np.ndarray:
    """Return blue, green and red as shares of the value, (3, 256 * 256) float32, for each hue and saturation."""
    hue, saturation = np.divmod(np.arange(1 << 16), 256)
    hue, saturation = hue.astype(np.float32) * np.float32(6 / 180), saturation.astype(np.float32) * np.float32(1 / 255)
    sector = np.floor(hue)
    part = hue - sector
    one, minus = np.float32(1), -saturation.astype(np.float64)  # products in float64: a fused multiply-add
    shares = (one - saturation, minus * part + 1, minus * (one - part) + 1)
    table = np.stack([np.ones_like(hue), *(share.astype(np.float32) for share in shares)])
    result = np.take_along_axis(table, _SECTORS.T[:, sector.astype(np.intp) % 6], 0)
    result.flags.writeable = False
    return result


def scaled(image: np.ndarray, factor: float, shift: float = 0.0) -> np.ndarray:
    """Return `factor * x + shift` of uint8 values of any shape, rounded and clipped to 0 .. 255: `Mat::convertTo`."""
    table = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(shift)
    return np.rint(table).clip(0, 255).astype(np.uint8).take(image)


def bgr_to_gray(image: np.ndarray) -> np.ndarray:
    """Convert (3, H, W) uint8, BGR, to gray, (1, H, W) uint8; equal to `cv2.cvtColor(.., COLOR_BGR2GRAY)`."""
    blue, green, red = image.astype(np.int32)
    return _shifted(3735 * blue + 19235 * green + 9798 * red, _GRAY_BITS)[None].astype(np.uint8)


def bgr_to_ycrcb(image: np.ndarray) -> np.ndarray:
    """Convert (3, H, W) uint8, BGR, to YCrCb, uint8; equal to `cv2.cvtColor(.., COLOR_BGR2YCrCb)`."""
    blue, green, red = image.astype(np.int32)
    luma = _shifted(1868 * blue + 9617 * green + 4899 * red, _YCC_BITS)
    chroma = (_shifted((red - luma) * 11682, _YCC_BITS) + 128, _shifted((blue - luma) * 9241, _YCC_BITS) + 128)
    return np.stack([luma, *chroma]).clip(0, 255).astype(np.uint8)


def ycrcb_to_bgr(image: np.ndarray) -> np.ndarray:
    """Convert (3, H, W) uint8, YCrCb, to BGR, uint8; equal to `cv2.cvtColor(.., COLOR_YCrCb2BGR)`."""
    luma, red, blue = image.astype(np.int32)
    red, blue = red - 128, blue - 128
    shares = (29049 * blue, -5636 * blue - 11698 * red, 22987 * red)
    return np.stack([luma + _shifted(share, _YCC_BITS) for share in shares]).clip(0, 255).astype(np.uint8)


def bgr_to_lab(image: np.ndarray) -> np.ndarray:
    """Convert (3, H, W) uint8, BGR, to CIE L*a*b*, float32: L 0 .. 100, a and b about -127 .. 127; white point D65.

    The formula in OpenCV's documentation of `cvtColor`, in float64; later versions of OpenCV interpolate in a table
    instead, whose values differ by less than 0.5.
    """
    bgr = image / 255
    linear = np.where(bgr <= 0.04045, bgr / 12.92, ((bgr + 0.055) / 1.055) ** 2.4)
    xyz = np.tensordot(_XYZ / _WHITE[:, None], linear[::-1], 1)
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    light = np.where(xyz[1] > 0.008856, 116 * root[1] - 16, 903.3 * xyz[1])
    return np.stack([light, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])]).astype(np.float32)


def _shifted(values: np.ndarray, bits: int) -> np.ndarray:
    """Divide integers by 2^bits, rounded to the nearest, halves upwards."""
    return (values + (1 << bits - 1)) >> bits
