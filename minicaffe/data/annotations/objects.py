"""What an annotation file states about an image: its size, and objects with boxes in pixels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minicaffe.data.annotations.records import Box
from minicaffe.data.label_map import LabelMap
from minicaffe.errors import DataError

log = logging.getLogger("minicaffe")

_LARGEST = 1e6  # of an edge, in pixels; images have fewer


class Object(NamedTuple):
    """An object: its class, by its name in the label map or as a label, and its edges in pixels, until `scaled`."""

    name: str | int
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    difficult: bool = False

    def scaled(self, height: int, width: int) -> Object:
        """Return the object with its edges as fractions of an image of this height and width."""
        name, xmin, ymin, xmax, ymax, difficult = self
        return Object(name, xmin / width, ymin / height, xmax / width, ymax / height, difficult)


class Annotation(NamedTuple):
    """The content of an annotation.

    where: the file, for messages.  size: (height, width) of the image as the file states it; None if it does not.
    expects_size: whether files of this kind state the size, so that one that does not is doubtful (default True).
    """

    where: str
    size: tuple[int, int] | None
    objects: Sequence[Object]
    expects_size: bool = True

    def boxes(self, image: tuple[int, int], labels: LabelMap | None) -> list[Box]:
        """Return the boxes as fractions of the stated size, or of the image's where the file states none.

        image: (height, width) of the image.  labels: gives the labels of the classes' names; None if all are labels.
        What is doubtful is logged: no size, another than the image's, boxes that exceed the image.  Boxes whose right
        edge is left of the left one, or the lower above the upper, are logged and left out.
        DataError for a class that the label map does not have.
        """
        height, width = self.size or image
        if self.size is None and self.expects_size:
            log.warning("%s states no size: that of the image, %dx%d, is taken", self.where, image[1], image[0])
        elif self.size not in (None, image):
            log.warning(
                "%s is about an image of %dx%d pixels, but the image has %dx%d",
                self.where, width, height, image[1], image[0],
            )  # fmt: skip
        valid = [each for each in self.objects if each.xmin <= each.xmax and each.ymin <= each.ymax]
        outside = sum(_exceeds(each, height, width) for each in valid)
        for count, what in (
            (len(self.objects) - len(valid), "have their edges in the wrong order, and are left out"),
            (outside, "exceed the image"),
        ):
            if count:
                log.warning("%s: %d of %d boxes %s", self.where, count, len(self.objects), what)
        return [Box(self._label(each.name, labels), *each.scaled(height, width)[1:]) for each in valid]

    def _label(self, name: str | int, labels: LabelMap | None) -> int:
        if not isinstance(name, str):
            return name
        if labels is None:
            raise DataError(f"{self.where} has class names, so a label map is needed")
        try:
            return labels.label_of(name)
        except DataError as error:
            raise DataError(f"{self.where}: {error.args[0]}") from error


def _exceeds(each: Object, height: int, width: int) -> bool:
    across, down = (each.xmin, each.xmax), (each.ymin, each.ymax)
    return min(*across, *down) < 0 or max(across) > width or max(down) > height


def edge(value: float, where: str) -> float:
    """Return a coordinate of a box in pixels, rounded to float32; DataError, starting with `where`, for a wrong one."""
    if not abs(value) <= _LARGEST:  # nor is nan
        raise DataError(f"{where} must be a number of pixels, got {value}")
    return float(np.float32(value))
