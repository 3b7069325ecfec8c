"""Decoding, encoding and resizing of images: arrays (C, H, W) of uint8, BGR as in OpenCV and Caffe.

Pillow reads and writes the files: `image_file.FORMATS` are read.  Resizing is that of `cv::resize`, LINEAR by default:
between pixel centres, without smoothing; Pillow's bilinear filter averages when it reduces an image, which gives other
pixels.
All readers of image files and of encoded records use these functions.
"""

from __future__ import annotations

import io
import os

import numpy as np
from PIL import Image

from minicaffe import limits
from minicaffe.data.depth import is_deep, unit_range, upper_bytes
from minicaffe.data.image_file import opened, read_bytes
from minicaffe.data.pnm import pnm_pixels
from minicaffe.data.resample import MODES, depends_on_layout, resample
from minicaffe.data.resize import check_size
from minicaffe.errors import DataError, UsageError

# Conversion of RGB to gray in OpenCV, or in the library that decodes for it: weights, bits to shift, rounding.
_GRAY = {"PNG": ((9797, 19234, 3737), 15, 0)} | dict.fromkeys(("BMP", "PPM", "TIFF"), ((4899, 9617, 1868), 14, 1 << 13))

_FLOAT_BYTES = 16  # memory per pixel while an image is decoded to floats

# The weights of scikit-image's rgb2gray (ITU-R BT.709 rounded to four digits).
_GRAY_WEIGHTS = np.array([0.2125, 0.7154, 0.0721], np.float32)


def read_image(path: str | os.PathLike, color: bool | None = True) -> np.ndarray:
    """Read an image file as uint8 (3, H, W), BGR, or (1, H, W), gray.

    color: True (default) for three channels, False for one; None keeps those of the file.
    DataError when the file is missing or cannot be decoded.
    """
    return _writable(read_pixels(path, color))


def read_pixels(path: str | os.PathLike, color: bool | None = True) -> np.ndarray:
    """Read an image file like `read_image`, but return an array as `decode_pixels` does."""
    return decode_pixels(read_bytes(path), color, os.fspath(path))


def decode_image(data: bytes, color: bool | None = None, name: str = "encoded image") -> np.ndarray:
    """Decode the bytes of a JPEG, PNG or other file supported by Pillow; result and `color` as for `read_image`.

    The pixels are those of OpenCV's imread: the upper 8 of 16 bits are used, alpha is dropped, the gray of a JPEG is
    its luminance.
    name: the image, for error messages.  DataError for data that are damaged, not an image, or of 32 bits per pixel.
    """
    return _writable(decode_pixels(data, color, name))


def decode_pixels(data: bytes, color: bool | None = None, name: str = "encoded image") -> np.ndarray:
    """Decode an image like `decode_image`, but return a read-only array, a view of (H, W, 3) RGB."""
    pixels = np.asarray(decode_picture(data, color, name))
    return pixels[None] if pixels.ndim == 2 else pixels[:, :, ::-1].transpose(2, 0, 1)


def _writable(pixels: np.ndarray) -> np.ndarray:
    return np.array(pixels, order="C")


def decode_picture(data: bytes, color: bool | None = None, name: str = "encoded image") -> Image.Image:
    """Decode an image like `decode_image`, but return a Pillow image of mode "RGB" or "L"."""
    with opened(data, name) as image:
        if color is None:
            color = not _is_gray(image)
        if not color:
            image.draft("L", image.size)
        pixels = pnm_pixels(data) if image.format == "PPM" else None
        if pixels is None and is_deep(image):
            pixels = upper_bytes(image, name)
        picture = image if pixels is None else Image.fromarray(pixels)
        if color or _is_gray(picture) or image.format not in _GRAY:
            return _converted(picture, "RGB" if color else "L")
        return Image.fromarray(_gray(np.asarray(picture.convert("RGB")), *_GRAY[image.format]))


def _converted(picture: Image.Image, mode: str) -> Image.Image:
    """Return the decoded picture in a mode; itself, not a copy, if it has that mode."""
    if picture.mode != mode:
        return picture.convert(mode)
    picture.load()
    return picture


def decode_floats(data: bytes, color: bool = True, name: str = "encoded image") -> np.ndarray:
    """Decode an image to float32 (H, W, 3), RGB in [0, 1]; with color=False to (H, W, 1).

    The values are those of scikit-image's imread and img_as_float: integers are divided by the maximum of their type,
    floats are not scaled.  name and errors as for `decode_image`.
    """
    with opened(data, name) as image:
        if limits.expands_too_far(_FLOAT_BYTES * image.width * image.height, len(data)):
            raise DataError(
                f"{name}, {len(data)} bytes, has {image.width}x{image.height} pixels, too many for floats: "
                "the environment variable MINICAFFE_MAX_EXPANDED raises this limit"
            )
        if is_deep(image):
            pixels = unit_range(image)
        else:
            picture = image.convert("L" if _is_gray(image) else "RGB")
            pixels = np.divide(picture, np.float32(255), dtype=np.float32)
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3 if color else 1, axis=2)
    return pixels if color else (pixels @ _GRAY_WEIGHTS)[:, :, None]


def _gray(pixels: np.ndarray, weights: tuple[int, ...], bits: int, rounding: int) -> np.ndarray:
    gray = np.empty(pixels.shape[:2], np.uint8)
    step = max(1, (1 << 20) // pixels.shape[1])  # in parts: integers of 64 bits for the whole image would be large
    for y in range(0, len(pixels), step):
        gray[y : y + step] = pixels[y : y + step] @ np.array(weights) + rounding >> bits
    return gray


def _is_gray(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA") or is_deep(image)


def encode_image(image: np.ndarray, kind: str, quality: int = 95) -> bytes:
    """Encode (C, H, W) uint8, BGR or gray, as the bytes of a file of type `kind`: "png", "jpg", ...

    quality: of a JPEG, 1 to 100 (default 95, as of `cv::imencode`).
    DataError for a type that Pillow does not write, or not in this size.
    """
    pixels = image[::-1].transpose(1, 2, 0) if len(image) == 3 else image[0]
    kind = kind.lower().lstrip(".")
    buffer = io.BytesIO()
    format_name = Image.registered_extensions().get(f".{kind}", kind)
    options = {"quality": quality} if format_name == "JPEG" else {}
    try:
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format_name, **options)
    except Exception as error:  # for an image too large for the format, Pillow raises exceptions of many types
        raise DataError(f"cannot encode an image as {kind!r}: {' '.join(str(error).split())}") from error
    return buffer.getvalue()


def resize(image: np.ndarray, height: int, width: int, mode: str = "LINEAR") -> np.ndarray:
    """Resize (C, H, W) to (C, height, width) as OpenCV's `resize` does, to the bit.

    mode: one of `resample.MODES`.  uint8 and float32 keep their type; other types become float32.
    UsageError for another mode, for sizes that are not positive, and for more pixels than `limits.max_pixels`.
    """
    if image.shape[1:] == (height, width):
        return image
    check_size((*image.shape[1:], len(image)), (height, width))
    if mode not in MODES:
        raise UsageError(f"resize: the mode must be one of {', '.join(MODES)}, got {mode!r}")
    if image.dtype not in (np.uint8, np.float32):
        image = image.astype(np.float32)
    pixels, layout = image.transpose(1, 2, 0), depends_on_layout(mode, len(image), image.dtype)
    is_reversed = pixels.strides[2] < 0 and not layout
    pixels = pixels[:, :, ::-1] if is_reversed else pixels
    if not pixels.flags.c_contiguous and not layout:
        return resample(np.ascontiguousarray(image)[..., None], height, width, mode)[..., 0]
    resized = resample(np.ascontiguousarray(pixels)[None], height, width, mode)[0]
    return np.ascontiguousarray((resized[:, :, ::-1] if is_reversed else resized).transpose(2, 0, 1))
