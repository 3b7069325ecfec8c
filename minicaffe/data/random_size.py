"""Sizes drawn at random for a picture, before resize_param: Intel's and NVIDIA's fields of transform_param.

Sources: `RandomResizeImage` and `RandomAlterAspectRatio` of Intel's data_transformer.cpp, `image_random_resize` of
NVIDIA's.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from minicaffe.data.image import resize
from minicaffe.data.resize_param import Resizer
from minicaffe.errors import DataError
from minicaffe.philox import Stream
from minicaffe.proto.caffe_pb2 import TransformationParameter

_NVIDIA = ("img_rand_resize", "rand_resize_ratio", "vertical_stretch", "horizontal_stretch")
_ALGORITHMS = dict(TransformationParameter.InterpolationAlgo.items())


class Sizing(NamedTuple):
    """The part of a picture that is kept, and the size that it gets, in pixels."""

    top: int
    left: int
    part: tuple[int, int]  #: height and width
    size: tuple[int, int]  #: height and width
    mode: str  #: the interpolation, one of `resample.MODES`

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the part of a picture (C, H, W), resized."""
        height, width = self.part
        part = image[:, self.top : self.top + height, self.left : self.left + width]
        return resize(np.ascontiguousarray(part), *self.size, self.mode)


class RandomSize(Protocol):
    """A way to draw sizes."""

    def draw(self, rng: Stream, height: int, width: int) -> Sizing:
        """Draw for a picture of height x width."""
        ...


class ShorterSide:
    """random_resize_param: the shorter side becomes one of min_size .. max_size, the other keeps the aspect ratio.

    DataError for a min_size above max_size.
    """

    def __init__(self, param: Any) -> None:
        low, high = param.min_size, param.max_size
        if high and low > high:
            raise DataError(f"random_resize_param: min_size must not be above max_size, got {low} and {high}")
        self._limits, self._modes = (low, high), Resizer(param.resize_param)

    def draw(self, rng: Stream, height: int, width: int) -> Sizing:
        low, high = self._limits[0] or min(height, width), self._limits[1] or max(height, width)
        high = max(low, high)
        size = int(rng.generator().integers(low, high + 1)) if low < high else low
        return _by_shorter_side(height, width, size, self._modes.draw(rng).mode)


class RandomArea:
    """random_aspect_ratio_param: a part of random area and aspect ratio becomes crop x crop.

    Area and ratio r are drawn evenly, the sides are r and 1 / r times the root of the area, or the reverse; where that
    is not in the picture it is drawn again, and after max_attempt times the shorter side becomes `crop`.
    DataError without a square crop, and for ratios out of range.
    """

    def __init__(self, param: Any, crop: tuple[int, int]) -> None:
        low, high, change = param.min_area_ratio, param.max_area_ratio, param.aspect_ratio_change
        if not crop[0] or crop[0] != crop[1]:
            raise DataError("random_aspect_ratio_param needs crop_size")
        if not (0 < low <= high <= 1 and 0 < change <= 1):
            raise DataError(
                "random_aspect_ratio_param: needs 0 < min_area_ratio <= max_area_ratio <= 1 and aspect_ratio_change "
                f"above 0, to 1, got {low:g}, {high:g} and {change:g}"
            )
        self._area, self._ratio, self._attempts = (low, high), (change, 1 / change), param.max_attempt
        self._crop, self._modes = crop[0], Resizer(param.resize_param)

    def draw(self, rng: Stream, height: int, width: int) -> Sizing:
        generator, mode = rng.generator(), self._modes.draw(rng).mode
        for _ in range(self._attempts):
            side, ratio = np.sqrt(generator.uniform(*self._area) * height * width), generator.uniform(*self._ratio)
            part = max(1, int(side * ratio)), max(1, int(side / ratio))
            part = part[::-1] if generator.random() < 0.5 else part
            if part[0] <= height and part[1] <= width:
                top, left = (int(generator.integers(old - new + 1)) for old, new in zip((height, width), part))
                return Sizing(top, left, part, (self._crop, self._crop), mode)
        return _by_shorter_side(height, width, self._crop, mode)


class Stretch:
    """NVIDIA's fields: the shorter side is drawn, then the ratio of the sides, then a factor of each side.

    img_rand_resize_lower .. upper: of the shorter side, in pixels, whole.  rand_resize_ratio_lower .. upper: the longer
    side over the shorter, where upper is above 1.  vertical_stretch, horizontal_stretch: of height and width.  Neither
    side becomes smaller than the crop, nor, without allow_upscale, larger than it was.
    DataError for limits in the wrong order.
    """

    def __init__(self, param: Any, crop: tuple[int, int]) -> None:
        limits = [(getattr(param, f"{name}_lower"), getattr(param, f"{name}_upper")) for name in _NVIDIA]
        for name, (low, high) in zip(_NVIDIA, limits):
            if high and not 0 <= low <= high < np.inf:
                raise DataError(f"transform_param: {name}_lower must not be above {name}_upper, got {low:g}, {high:g}")
        (self._side, self._ratio, self._vertical, self._horizontal), self._crop = limits, crop
        self._larger = param.allow_upscale
        names = {value: name.removeprefix("INTER_") for name, value in _ALGORITHMS.items()}
        self._down, self._up = names[param.interpolation_algo_down], names[param.interpolation_algo_up]

    @staticmethod
    def is_given(param: Any) -> bool:
        """Whether one of the fields is."""
        return any(getattr(param, f"{_NVIDIA[0]}_{end}") for end in ("lower", "upper")) or any(
            param.HasField(f"{name}_{end}") for name in _NVIDIA[1:] for end in ("lower", "upper")
        )

    def draw(self, rng: Stream, height: int, width: int) -> Sizing:
        generator, (low, high) = rng.generator(), self._side
        shorter = int(generator.integers(low, high + 1)) if low and high else min(height, width)
        sides = np.array([height, width]) * (shorter / min(height, width))
        if self._ratio[0] >= 1 and self._ratio[1] > 1:
            longer = int(generator.integers(2)) if height == width else int(width > height)
            sides[longer] = sides[1 - longer] * generator.uniform(*self._ratio)
        for axis, (least, most) in enumerate((self._vertical, self._horizontal)):
            if least > 0 and most > 0:
                sides[axis] *= generator.uniform(least, most)
        new = [max(crop, int(np.floor(side + 0.5)), 1) for crop, side in zip(self._crop, sides)]
        if not self._larger:
            new = [min(one, old) for one, old in zip(new, (height, width))]
        mode = self._down if new[0] <= height and new[1] <= width else self._up
        return Sizing(0, 0, (height, width), (new[0], new[1]), mode)


def random_size_of(param: Any, crop: tuple[int, int]) -> RandomSize | None:
    """Return how a transform_param draws sizes, None if it does not.

    crop: height and width of its crop, 0 without.
    DataError as for the classes, and without a crop.
    """
    found: RandomSize | None = None
    if param.HasField("random_resize_param"):
        found = ShorterSide(param.random_resize_param)
    elif param.HasField("random_aspect_ratio_param"):
        found = RandomArea(param.random_aspect_ratio_param, crop)
    elif Stretch.is_given(param):
        found = Stretch(param, crop)
    if found and not all(crop):
        raise DataError("transform_param: images of random sizes need crop_size")
    return found


def _by_shorter_side(height: int, width: int, size: int, mode: str) -> Sizing:
    """Return the whole picture, its shorter side `size`, the other rounded down."""
    shorter = min(height, width)
    new = tuple(
        int(np.float32(side) / np.float32(shorter) * size) if side > shorter else size for side in (height, width)
    )
    return Sizing(0, 0, (height, width), (new[0], new[1]), mode)
