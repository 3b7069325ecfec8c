"""Pictures as arrays (C, H, W) of uint8 with the channels in OpenCV's order, blue first, because Caffe's are.

Pillow reads and writes the files; resizing is bilinear between pixel centres without smoothing, which is what
`cv::resize` does by default (Pillow's own bilinear filter averages when it shrinks, and gives other pixels).
All that reads pictures, from files or from encoded records, decodes them here.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

from minicaffe.data.depth import is_deep, unit_range, upper_bytes
from minicaffe.data.pnm import pnm_pixels
from minicaffe.data.resize import resample
from minicaffe.errors import DataError

# How OpenCV, or the library that decodes for it, makes gray of red, green and blue: weights, bits to shift, rounding.
_GRAY = {"PNG": ((9797, 19234, 3737), 15, 0)} | dict.fromkeys(("BMP", "PPM", "TIFF"), ((4899, 9617, 1868), 14, 1 << 13))

# What scikit-image's rgb2gray weighs the channels with (ITU-R BT.709 rounded to four digits).
_GRAY_WEIGHTS = np.array([0.2125, 0.7154, 0.0721], np.float32)


def read_image(path: str | os.PathLike, color: bool | None = True) -> np.ndarray:
    """The picture in `path` as (3, H, W) blue-green-red, or (1, H, W) for color=False; None keeps what it has.

    Raises `DataError` naming the file when it is missing or no readable picture.
    """
    return decode_image(read_bytes(path), color, os.fspath(path))


def read_bytes(path: str | os.PathLike) -> bytes:
    """The content of a picture's file; `DataError` naming the file when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise DataError(f"cannot read image {os.fspath(path)}: {error.strerror or error}") from error


def decode_image(data: bytes, color: bool | None = None, name: str = "encoded image") -> np.ndarray:
    """As `read_image`, from the bytes of a JPEG, PNG or any other file that Pillow reads.

    The pixels are those of OpenCV's imread: of 16 bits the upper 8 count, alpha is dropped, the gray of a JPEG is its
    luminance.  name: begins the text of errors.  Raises `DataError` for what is damaged, no picture, or of 32 bits.
    """
    pixels = np.asarray(decode_picture(data, color, name))
    return pixels[None].copy() if pixels.ndim == 2 else np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1))


def decode_picture(data: bytes, color: bool | None = None, name: str = "encoded image") -> Image.Image:
    """As `decode_image`, as a Pillow image of mode "RGB" or "L"."""
    with _opened(data, name) as image:
        if color is None:
            color = not _is_gray(image)
        if not color:
            image.draft("L", image.size)
        pixels = pnm_pixels(data) if image.format == "PPM" else None
        if pixels is None and is_deep(image):
            pixels = upper_bytes(image, name)
        picture = image if pixels is None else Image.fromarray(pixels)
        if color or _is_gray(picture) or image.format not in _GRAY:
            return picture.convert("RGB" if color else "L")
        weights, bits, rounding = _GRAY[image.format]
        gray = np.asarray(picture.convert("RGB")) @ np.array(weights) + rounding >> bits
        return Image.fromarray(gray.astype(np.uint8))


def decode_floats(data: bytes, color: bool = True, name: str = "encoded image") -> np.ndarray:
    """The picture as float32 (H, W, 3), RGB in [0, 1]; with color=False as (H, W, 1).  Raises as `decode_image`.

    As scikit-image's imread and img_as_float give it: integers are divided by the largest of their type, floats are
    taken as they are.
    """
    with _opened(data, name) as image:
        if is_deep(image):
            pixels = unit_range(image)
        else:
            pixels = np.asarray(image.convert("L" if _is_gray(image) else "RGB"), np.float32) / 255
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3 if color else 1, axis=2)
    return pixels if color else (pixels @ _GRAY_WEIGHTS)[:, :, None]


@contextlib.contextmanager
def _opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """The picture, decoded when it is first used; what Pillow raises becomes a `DataError`."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            yield image
    except UnidentifiedImageError as error:  # whose own words name an object in memory
        raise DataError(f"cannot decode {name}: it is no image of a kind that Pillow reads") from error
    except (OSError, TypeError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"cannot decode {name}: {str(error).splitlines()[0] if str(error) else 'no image'}") from error


def _is_gray(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA") or is_deep(image)


def encode_image(image: np.ndarray, kind: str) -> bytes:
    """(C, H, W) uint8, blue first, as the bytes of a file of type `kind`: "png", "jpg", ..."""
    pixels = image[::-1].transpose(1, 2, 0) if len(image) == 3 else image[0]
    kind = kind.lower().lstrip(".")
    buffer = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, Image.registered_extensions().get(f".{kind}", kind))
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
