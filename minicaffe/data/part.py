"""A rectangle of an image, or around it: the part of an image that a sampler chose, and the canvas of an expansion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minicaffe.errors import DataError
from minicaffe.limits import max_pixels
from minicaffe.proto.caffe_pb2 import ExpansionParameter


class Part(NamedTuple):
    """A rectangle in pixels of an image; it may extend beyond the image."""

    top: int
    left: int
    height: int
    width: int

    def region(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Return (xmin, ymin, xmax, ymax) as fractions of an image of height x width."""
        top, left, own_height, own_width = self
        return left / width, top / height, (left + own_width) / width, (top + own_height) / height

    def inner(self, region: Sequence[float] | np.ndarray) -> Part:
        """Return the part that a region (xmin, ymin, xmax, ymax), fractions of this one, covers.

        Position and size are cut to whole pixels, one at least, as in the fork.
        """
        xmin, ymin, xmax, ymax = region
        top, left = min(int(ymin * self.height), self.height - 1), min(int(xmin * self.width), self.width - 1)
        height, width = max(1, int((ymax - ymin) * self.height)), max(1, int((xmax - xmin) * self.width))
        return Part(self.top + top, self.left + left, height, width)

    def within(self, height: int, width: int) -> Part:
        """Return what is inside an image of height x width; its height or width is 0 if nothing is."""
        top, left = max(0, min(self.top, height)), max(0, min(self.left, width))
        bottom, right = max(top, min(self.top + self.height, height)), max(left, min(self.left + self.width, width))
        return Part(top, left, bottom - top, right - left)

    def of(self, image: np.ndarray) -> np.ndarray:
        """Return the rectangle of an image (C, H, W) that contains it, a view."""
        return image[:, self.top : self.top + self.height, self.left : self.left + self.width]


class Expander:
    """The random expansions of an ExpansionParameter: the image is placed at random in a larger one.

    With probability `prob` both sides grow by a factor that is uniform between 1 and max_expand_ratio (Liu et al., SSD,
    2016, section 3.6).
    DataError for a max_expand_ratio that is not above 1.
    """

    def __init__(self, param: ExpansionParameter) -> None:
        self.prob, self.most = param.prob, param.max_expand_ratio
        if not 1 < self.most < np.inf:
            raise DataError(f"expand_param: max_expand_ratio must be above 1, got {self.most:g}")

    def draw(self, generator: np.random.Generator, height: int, width: int) -> Part:
        """Draw the canvas of an image of height x width, or the image itself: always 4 numbers."""
        chance, growth, down, right = generator.random(4).tolist()
        if chance > self.prob or self.most - 1 < 1e-2:
            return Part(0, 0, height, width)
        ratio = 1 + growth * (self.most - 1)
        new_h, new_w = int(height * ratio), int(width * ratio)
        if new_h * new_w > max_pixels():
            raise DataError(
                f"expand_param: an image of {new_h}x{new_w} has more than {max_pixels()} pixels: "
                "the environment variable MINICAFFE_MAX_PIXELS raises this limit"
            )
        return Part(-int(down * (new_h - height)), -int(right * (new_w - width)), new_h, new_w)
