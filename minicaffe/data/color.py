"""Colour spaces of 8-bit pictures (3, H, W), with OpenCV's integers: BGR, HSV, YCrCb and gray.

Source: OpenCV's `cvtColor` of 8-bit pictures; a hue is half its angle, 0 .. 179.
"""

from __future__ import annotations

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
    hue = image[0] * np.float32(6 / 180)
    saturation, value = image[1:] * np.float32(1 / 255)
    sector = np.floor(hue)
    part = hue - sector
    one, minus = np.float32(1), -saturation.astype(np.float64)  # products in float64: a fused multiply-add
    shares = (one - saturation, minus * part + 1, minus * (one - part) + 1)
    table = np.stack([value, *(value * share.astype(np.float32) for share in shares)])
    channels = _SECTORS.T[:, sector.astype(np.intp) % 6]
    return np.rint(np.take_along_axis(table, channels, 0) * np.float32(255)).astype(np.uint8)


def scaled(image: np.ndarray, factor: float, shift: float = 0.0) -> np.ndarray:
    """Return `factor * x + shift` of uint8 values of any shape, rounded and clipped to 0 .. 255: `Mat::convertTo`."""
    table = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(shift)
    return np.rint(table).clip(0, 255).astype(np.uint8)[image]


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


def _shifted(values: np.ndarray, bits: int) -> np.ndarray:
    """Divide integers by 2^bits, rounded to the nearest, halves upwards."""
    return (values + (1 << bits - 1)) >> bits
