"""How converters store images in the records of a database: pixels or image files, resized or not."""

from __future__ import annotations

import os
from collections import Counter
from typing import NamedTuple

import numpy as np

from minicaffe.data.datum import array_to_datum
from minicaffe.data.image import decode_image, encode_image, read_image, resize
from minicaffe.data.image_file import read_bytes
from minicaffe.errors import DataError, UsageError, listed
from minicaffe.proto import caffe_pb2


class StoredImage(NamedTuple):
    """A record's image: a Datum without label, its shape (C, H, W), and (height, width) of the file it is from."""

    datum: caffe_pb2.Datum
    shape: tuple[int, ...]
    original: tuple[int, int]


class ImageStorage(NamedTuple):
    """How images are stored.

    gray: one channel (default False).  size: (height, width) to resize to; (0, 0) (default): not resized.
    min_dim, max_dim: enlarge an image whose shorter side has less than `min_dim` pixels, shrink one whose longer side,
        then, has more than `max_dim`, both with its ratio of sides; they take precedence over `size`; 0 (default): no
        such limit.
    encoded: image files instead of pixels (default False).  A file is stored unchanged, unless `encode_type`, another
        size or `gray` requires a new one.
    encode_type: the type of new image files, such as "png"; "" (default): that of the original file.
    """

    gray: bool = False
    size: tuple[int, int] = (0, 0)
    min_dim: int = 0
    max_dim: int = 0
    encoded: bool = False
    encode_type: str = ""

    def check(self) -> None:
        """Raise UsageError for a negative number, for one of height and width alone, and for an unknown type."""
        if bool(self.size[0]) != bool(self.size[1]):
            raise UsageError(
                f"resize_width and resize_height must be given together, got {self.size[1]} and {self.size[0]}"
            )
        for name, value in (("min_dim", self.min_dim), ("max_dim", self.max_dim)):
            if value < 0:
                raise UsageError(f"{name} must be 0 or more, got {value}")
        if self.encode_type:
            try:
                encode_image(np.zeros((1 if self.gray else 3, 8, 8), np.uint8), self.encode_type)
            except DataError:
                raise UsageError(
                    f"encode_type must be a type of image files, such as png or jpg, got '{self.encode_type}'"
                ) from None

    def read(self, path: str) -> StoredImage:
        """Read an image file; DataError when it cannot be read."""
        resizes = any((*self.size, self.min_dim, self.max_dim))
        if self.encoded and not resizes and not self.gray and self._keeps_type(path):
            content = read_bytes(path)
            shape = decode_image(content, None, path).shape  # raises DataError if the file cannot be decoded
            return StoredImage(caffe_pb2.Datum(data=content, encoded=True), shape, shape[1:])
        image = read_image(path, not self.gray)
        original = image.shape[1:]
        if resizes:
            image = resize(image, *self.new_size(*original))
        if not self.encoded:
            return StoredImage(array_to_datum(image), image.shape, original)
        content = encode_image(image, self.encode_type or os.path.splitext(path)[1] or "png")
        return StoredImage(caffe_pb2.Datum(data=content, encoded=True), image.shape, original)

    def new_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width in which an image of this height and width is stored."""
        if not self.min_dim and not self.max_dim:
            return self.size if any(self.size) else (height, width)
        shorter, longer = np.float32(min(height, width)), np.float32(max(height, width))
        scale = max(np.float32(self.min_dim) / shorter, np.float32(1))  # float32, as in SSD's fork
        if self.max_dim and int(scale * longer) > self.max_dim:
            scale = np.float32(self.max_dim) / longer
        return max(round(height * float(scale)), 1), max(round(width * float(scale)), 1)

    def _keeps_type(self, path: str) -> bool:
        extension, kind = (_kind(each) for each in (os.path.splitext(path)[1], self.encode_type))
        return kind in ("", extension)


PIXELS = ImageStorage()  #: the pixels in colour, in the size of the image


def _kind(extension: str) -> str:
    name = extension.lower().lstrip(".")
    return "jpeg" if name == "jpg" else name


def channels_warning(channels: Counter[int]) -> str:
    """Return a warning if the images of a database have different numbers of channels, counted here; "" if not.

    They do if image files in colour and in gray are stored unchanged.
    """
    if len(channels) < 2:
        return ""
    counts = listed(f"{count} image(s) of {number} channel(s)" for number, count in sorted(channels.items()))
    return (
        f"the database has {counts}, but a batch and a mean need one number of channels: convert without --encoded, or "
        "with --gray; for batches, force_encoded_color in data_param does, too"
    )
