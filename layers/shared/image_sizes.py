"""Detections in the pixels of the original images, whose names and sizes a file lists (name_size_file of SSD's layers).

A line of the file: name, height and width in pixels, separated by blanks; the images in the order in which they are
read.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicaffe.data.box_rows import inside
from minicaffe.errors import DataError, printable_line
from minicaffe.proto.caffe_pb2 import DetectionEvaluateParameter, ResizeParameter, SaveOutputParameter
from minicaffe.saved import whole
from minicaffe.text import read_names


class ImageSize(NamedTuple):
    """An image's name, height and width in pixels."""

    name: str
    height: int
    width: int


class ImageSizes:
    """The images of a name_size_file, from which passes take one batch after the other, again and again.

    path: the file; DataError when it cannot be read, has fewer images than `count` or none, or another line.
    count: of the first images, which are used; 0 (default): all.
    images: these images.  next: index of the first image of the next batch.
    """

    def __init__(self, path: str, count: int = 0) -> None:
        lines = read_names(path, "list of image sizes")
        if len(lines) < max(count, 1):
            raise DataError(f"list of image sizes {path} has {len(lines)} images, expected {count or 1} or more")
        self.images = [_read_line(line, path) for line in lines[: count or None]]
        self.next = 0

    def __getitem__(self, i: int) -> ImageSize:
        """Return image i of the next batch."""
        return self.images[(self.next + i) % len(self.images)]

    def advance(self, count: int) -> None:
        """End a batch of `count` images."""
        self.next = (self.next + count) % len(self.images)

    def load(self, state: dict) -> None:
        """Go to the position "image" of a layer's state; SnapshotError unless it is the index of an image."""
        self.next = whole(state, "image", len(self.images) - 1)


def _read_line(line: str, path: str) -> ImageSize:
    words = line.split()
    if len(words) != 3 or not all(word.isdecimal() and int(word) for word in words[1:]):
        raise DataError(
            f"list of image sizes {path}: expected a line of name, height and width, got '{printable_line(line)}'"
        )
    return ImageSize(words[0], int(words[1]), int(words[2]))


def resize_of(param: DetectionEvaluateParameter | SaveOutputParameter) -> ResizeParameter | None:
    """Return the resize_param of a message, None if it has none; DataError without a height or a width."""
    if not param.HasField("resize_param"):
        return None
    if not (param.resize_param.height and param.resize_param.width):
        raise DataError("resize_param needs a height and a width above 0")
    return param.resize_param


def in_pixels(boxes: np.ndarray, image: ImageSize, resize: ResizeParameter | None) -> np.ndarray:
    """Return boxes (n, 4) in pixels of an image, inside it; given are fractions of the input that was made of it.

    resize: how the image became the input (`resize_param`); None: it was warped.  The pad of FIT_LARGE_SIZE_AND_PAD is
    taken off.  With FIT_SMALL_SIZE, height_scale and width_scale are the size that the fractions refer to; without
    them, it is the whole image.
    Source: OutputBBox in the original's bbox_util.cpp.
    """
    boxes = np.asarray(boxes)
    if resize is not None and resize.resize_mode == ResizeParameter.FIT_SMALL_SIZE:
        if resize.height_scale and resize.width_scale:
            boxes = boxes * np.array([resize.width_scale, resize.height_scale] * 2, boxes.dtype)
            return np.clip(boxes, 0, np.array([image.width, image.height] * 2, boxes.dtype))
    elif resize is not None and resize.resize_mode == ResizeParameter.FIT_LARGE_SIZE_AND_PAD:
        boxes = _without_pad(boxes, image, resize)
    return np.clip(boxes, 0, 1) * np.array([image.width, image.height] * 2, boxes.dtype)


def _without_pad(boxes: np.ndarray, image: ImageSize, resize: ResizeParameter) -> np.ndarray:
    """Return boxes as fractions of the image in the middle of the padded input; those entirely in the pad unchanged."""
    height, width, one = np.float32(resize.height), np.float32(resize.width), np.float32(1)
    aspect = np.float32(image.width) / np.float32(image.height)
    pad_x = pad_y = np.float32(0)
    if aspect > width / height:
        pad_y = (height - width / aspect) / 2 / height
    else:
        pad_x = (width - height * aspect) / 2 / width
    image_part = np.array([pad_x, pad_y, one - pad_x, one - pad_y])
    seen = np.all(boxes[:, :2] < image_part[2:], 1) & np.all(boxes[:, 2:] > image_part[:2], 1)
    return np.where(seen[:, None], inside(boxes, image_part), boxes)
