"""Gray images of more than 8 bits: the upper byte, as OpenCV reads them, or floats, as scikit-image reads them.

Pillow's modes for them are "I;16" and variants, "I" (32 bits, but in some formats also 16 bits) and "F".
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from PIL import Image

from minicaffe.errors import DataError

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_WHITE_IS_ZERO, _SIGNED = 0, 2

Default = TypeVar("Default", int, None)


def is_deep(image: Image.Image) -> bool:
    """Whether the image has one channel of more than 8 bits."""
    return image.mode[0] in "IF"


def upper_bytes(image: Image.Image, name: str) -> np.ndarray:
    """Return the upper byte of each pixel of a 16-bit gray image, (H, W) uint8.

    name: the image, for the error message.
    DataError for another number of bits and for floats, which OpenCV does not read either.
    """
    bits, signed = _number_type(image)
    if bits != 16:
        kind = "floats" if image.mode == "F" else "integers"
        raise DataError(f"cannot decode {name}: its pixels are {bits}-bit {kind}, expected 8 or 16 bits")
    values = np.asarray(image).astype(np.int32)
    if _tag(image, _PHOTOMETRIC, None) == _WHITE_IS_ZERO:
        values = (-1 if signed else 65535) - values
    return (values >> 8).astype(np.uint8)


def unit_range(image: Image.Image) -> np.ndarray:
    """Return the image as float32 (H, W): integers are divided by the maximum of their type, floats not scaled."""
    if image.mode == "F":
        return np.asarray(image, np.float32)
    bits, signed = _number_type(image)
    values = np.asarray(image)
    if bits == 32 and not signed:
        values = values.astype(np.int32).view(np.uint32)
    largest = (1 << (bits - signed)) - 1
    scaled = values / largest
    return scaled.clip(-1, 1, out=scaled).astype(np.float32)


def _number_type(image: Image.Image) -> tuple[int, bool]:
    """Return the number of bits per pixel in the file, and whether pixels are signed."""
    if image.format == "TIFF":
        return int(_tag(image, _BITS, 1)), _tag(image, _SAMPLE_FORMAT, 1) == _SIGNED
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return 16, False
    return 32, True


def _tag(image: Image.Image, number: int, default: Default) -> int | Default:
    """Return the first value of a TIFF tag; `default` if the tag is missing, and for other formats."""
    value = getattr(image, "tag_v2", {}).get(number, default)
    return value[0] if isinstance(value, tuple) else value
