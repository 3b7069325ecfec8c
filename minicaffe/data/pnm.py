"""Reader of PGM and PPM images with the values of OpenCV, which scales them differently from Pillow."""

from __future__ import annotations

import re

import numpy as np

_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_HEADER = re.compile(rb"P([2356])" + 3 * (_GAP + rb"(\d+)") + rb"\s")


def pnm_pixels(data: bytes) -> np.ndarray | None:
    """Return the pixels of a PGM, (H, W), or PPM, (H, W, 3) RGB, as uint8; None for any other file, including PBM.

    Of values of two bytes (a maximum above 255) the upper byte is used.  Values of one byte are not scaled in a binary
    file; in an ASCII file they are scaled so that the maximum becomes 255, and rounded down.
    ValueError when the file is damaged.
    """
    header = _HEADER.match(data)
    if header is None:
        return None
    kind, width, height, largest = map(int, header.groups())
    channels = 3 if kind in (3, 6) else 1
    count = width * height * channels
    if not count or not 0 < largest < 65536:
        raise ValueError(f"a picture of {width}x{height} with values up to {largest}")
    values = (_binary if kind > 3 else _ascii)(data[header.end() :], count, largest)
    return values.astype(np.uint8).reshape((height, width, channels) if channels == 3 else (height, width))


def _binary(body: bytes, count: int, largest: int) -> np.ndarray:
    size = 1 if largest < 256 else 2
    if len(body) < count * size:
        raise ValueError(f"image file is truncated: it has {len(body)} bytes of pixels, expected {count * size}")
    return np.frombuffer(body, np.uint8, count * size)[::size]  # big-endian: the upper byte is first


def _ascii(body: bytes, count: int, largest: int) -> np.ndarray:
    words = re.sub(rb"#[^\r\n]*", b"", body).split(maxsplit=count)
    if len(words) < count:
        raise ValueError(f"image file is truncated: it has {len(words)} values, expected {count}")
    values = np.fromiter(map(int, words), np.int64, count).clip(0, largest)
    return values >> 8 if largest > 255 else values * 255 // largest
