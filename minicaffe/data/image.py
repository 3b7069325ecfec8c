"""Pictures as arrays (C, H, W) of uint8 with the channels in OpenCV's order, blue first, because Caffe's are.

Pillow reads and writes the files; resizing is bilinear between pixel centres without smoothing, which is what
`cv::resize` does by default (Pillow's own bilinear filter averages when it shrinks, and gives other pixels).
"""

from __future__ import annotations

import io
import os

import numpy as np
from PIL import Image, UnidentifiedImageError

from minicaffe.errors import DataError
from minicaffe.resize import resample


def read_image(path: str | os.PathLike, color: bool | None = True) -> np.ndarray:
    """The picture in `path` as (3, H, W) blue-green-red, or (1, H, W) for color=False; None keeps what it has.

    Raises `DataError` naming the file when it is missing or no readable picture.
    """
    try:
        with open(path, "rb") as file:
            return decode_image(file.read(), color, os.fspath(path))
    except OSError as error:
        raise DataError(f"cannot read image {path}: {error.strerror or error}") from error


def decode_image(data: bytes, color: bool | None = None, name: str = "encoded image") -> np.ndarray:
    """As `read_image`, from the bytes of a JPEG, PNG or any other file that Pillow reads."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if color is None:
                color = image.mode not in ("1", "L", "LA", "I", "F", "I;16")
            pixels = np.asarray(image.convert("RGB" if color else "L"))
    except UnidentifiedImageError as error:  # whose own words name an object in memory
        raise DataError(f"cannot decode {name}: it is no image of a kind that Pillow reads") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot decode {name}: {str(error).splitlines()[0] if str(error) else 'no image'}") from error
    return np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1)) if color else pixels[None].copy()


def encode_image(image: np.ndarray, kind: str) -> bytes:
    """(C, H, W) uint8, blue first, as the bytes of a file of type `kind`: "png", "jpg", ..."""
    pixels = image[::-1].transpose(1, 2, 0) if len(image) == 3 else image[0]
    kind = kind.lower().lstrip(".")
    buffer = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, {"jpg": "jpeg", "tif": "tiff"}.get(kind, kind))
    except (KeyError, OSError, ValueError) as error:
        raise DataError(f"cannot encode an image as {kind!r}: {error}") from error
    return buffer.getvalue()


def resize(image: np.ndarray, height: int, width: int, order: int = 1) -> np.ndarray:
    """(C, H, W) resized to (C, height, width) in the same dtype; order 0 nearest, 1 bilinear, 3 cubic."""
    if image.shape[1:] == (height, width):
        return image
    result = resample(image.transpose(1, 2, 0), (height, width), order).transpose(2, 0, 1)
    if image.dtype == np.uint8:
        result = np.rint(result).clip(0, 255)
    return np.ascontiguousarray(result, image.dtype)
