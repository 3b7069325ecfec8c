"""Opening of image files through Pillow: the formats, the largest size, and one exception for whatever is damaged."""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
from collections.abc import Iterator
from typing import Any

from PIL import Image

from minicaffe import files, limits
from minicaffe.errors import DataError, MinicaffeError

#: The formats that are read, in the order in which they are tried: TGA files have no signature.  Others of Pillow are
#: not, such as EPS, for which it starts Ghostscript, and those that it decodes slowly in Python.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "PCX", "SGI", "SUN", "TGA")

#: what follows the signatures that are text, and does not follow them in a name such as "BMW.jpg" or "P6.jpg"
_AFTER_TEXT = {"BMP": re.compile(rb"\0"), "GIF": re.compile(rb"\0"), "PPM": re.compile(rb"^P.\s")}

_TILE_WIDTH, _TILE_HEIGHT = 322, 323  # tags of TIFF
_SCAN = re.compile(rb"\xff\xda\0[\x08\x0a\x0c\x0e]")  # start of a scan of a JPEG, with the length of its header
_MAX_SCANNED = 1 << 31  # pixels of all scans: each goes over the whole image; progressive files have about ten
_MAX_RUN_LENGTH = 1 << 24  # pixels of a BMP in run-length encoding, which Pillow decodes slowly


def read_bytes(path: str | os.PathLike) -> bytes:
    """Return the content of an image file; DataError when it cannot be read, or is not a regular file."""
    try:
        return files.read_bytes(path)
    except OSError as error:
        raise DataError(f"cannot read image {os.fspath(path)}: {error.strerror or error}") from error


def size_of(path: str | os.PathLike) -> tuple[int, int]:
    """Return width and height of an image file, without decoding its pixels; DataError as of `opened`."""
    with opened(read_bytes(path), os.fspath(path)) as image:
        return image.size


@contextlib.contextmanager
def opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """Open an image, whose pixels Pillow decodes on first use; inside the block, exceptions become DataError.

    data: the content of a file in one of `FORMATS`.  name: the image, for error messages.
    DataError for another format, for damaged data, and for more pixels than `limits.max_pixels`.
    """
    try:
        with _identified(data, name) as image:
            _check_size(image, data, name)
            yield image
    except MinicaffeError:
        raise
    except Exception as error:  # for damaged data Pillow and its plugins raise exceptions of any type
        reason = str(error)
        if not isinstance(error, (OSError, SyntaxError, ValueError)) or not str(error):
            reason = f"its data are damaged ({type(error).__name__}: {error})"
        raise DataError(f"cannot decode {name}: {reason.splitlines()[0]}") from error


def has_signature(start: bytes) -> bool:
    """Return whether the first 16 bytes of a file are those of an image in one of `FORMATS` other than TGA."""
    return any(
        kind != "TGA" and (kind not in _AFTER_TEXT or _AFTER_TEXT[kind].search(start)) for kind, _ in _plugins(start)
    )


def _plugins(start: bytes) -> Iterator[tuple[str, Any]]:
    """Yield format and plugin for which the first 16 bytes of a file are the signature; TGA, which has none, always."""
    Image.init()
    for kind in FORMATS:
        plugin, accepts = Image.OPEN.get(kind, (None, None))
        with contextlib.suppress(IndexError, TypeError, struct.error):  # fewer bytes than the signature has
            if plugin and (accepts is None or accepts(start) is True):
                yield kind, plugin


def _identified(data: bytes, name: str) -> Any:
    """Return the image opened by the first plugin that accepts the data.

    `Image.open` does the same, but warns of large images, and refuses still larger ones, by a limit of the process.
    """
    for _, plugin in _plugins(data[:16]):
        with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # not an image of this kind
            return plugin(io.BytesIO(data), "")
    raise DataError(f"cannot decode {name}: it is no image of a kind that Pillow reads")


def _check_size(image: Image.Image, data: bytes, name: str) -> None:
    width, height = image.size
    if min(width, height) < 1:
        raise DataError(f"cannot decode {name}: it has {width}x{height} pixels")
    check_pixels(width, height, name)
    if image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        check_pixels(tags.get(_TILE_WIDTH, 1), tags.get(_TILE_HEIGHT, 1), f"a tile of {name}")
    if image.format == "BMP" and image.info.get("compression") in (1, 2) and width * height > _MAX_RUN_LENGTH:
        raise DataError(f"cannot decode {name}: run-length encoding of {width}x{height} pixels would take too long")
    if image.format in ("JPEG", "MPO") and width * height * (scans := len(_SCAN.findall(data))) > _MAX_SCANNED:
        raise DataError(f"cannot decode {name}: {scans} scans of {width}x{height} pixels would take too long")


def check_pixels(width: int, height: int, name: str) -> None:
    """Raise DataError for an image of more than `limits.max_pixels`; `name` is the image, for the message."""
    if width * height > limits.max_pixels():
        raise DataError(
            f"{name} has {width}x{height} pixels, more than {limits.max_pixels()}: "
            "the environment variable MINICAFFE_MAX_PIXELS raises this limit"
        )
