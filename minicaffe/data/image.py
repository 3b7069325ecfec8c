"""Pictures as arrays (C, H, W) of uint8 with the channels in OpenCV's order, blue first, because Caffe's are.

Pillow reads and writes the files; resizing is bilinear between pixel centres without smoothing, which is what
`cv::resize` does by default (Pillow's own bilinear filter averages when it shrinks, and gives other pixels).
"""

from __future__ import annotations

import io
import os

import numpy as np
from PIL import Image

from minicaffe.errors import DataError


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


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize of (C, H, W) to (C, height, width), in the same dtype; uint8 is rounded."""
    if image.shape[1:] == (height, width):
        return image
    top, bottom, dy = _neighbours(image.shape[1], height)
    left, right, dx = _neighbours(image.shape[2], width)
    pixels = image.astype(np.float32)
    rows = pixels[:, top] + (pixels[:, bottom] - pixels[:, top]) * dy[:, None]
    result = rows[:, :, left] + (rows[:, :, right] - rows[:, :, left]) * dx
    return np.rint(result).astype(np.uint8) if image.dtype == np.uint8 else result.astype(image.dtype)


def _neighbours(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each new pixel: the two old ones whose centres enclose its own, and the weight of the second."""
    centre = (np.arange(new_size, dtype=np.float32) + 0.5) * (size / new_size) - 0.5
    centre = np.clip(centre, 0, size - 1)
    first = np.floor(centre).astype(np.intp)
    return first, np.minimum(first + 1, size - 1), (centre - first).astype(np.float32)
