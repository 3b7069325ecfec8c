"""TSN's crops in training: of several sizes, which are resized to that of the net's input, and at fixed places."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicaffe.data.image import resize
from minicaffe.data.part import Part
from minicaffe.errors import DataError
from minicaffe.philox import Stream
from minicaffe.proto.caffe_pb2 import TransformationParameter

_SCALES = (1.0, 0.875, 0.75, 0.66)
_NEAR = 3  #: a side that is less than this from the crop's is the crop's
#: the places of crops, in quarters of the room beside them: (down, right)
_PLACES = ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))
_MORE_PLACES = (*_PLACES, (0, 2), (4, 2), (2, 0), (2, 4), (1, 1), (1, 3), (3, 1), (3, 3))


class ScaledCrop(NamedTuple):
    """The crops of a TransformationParameter with multi_scale or fix_crop (Wang et al., TSN, 2016, section 3.2).

    With multi_scale the sides of a crop are the shorter side of the image times one of `scales` each; two that are more
    than `distortion` places apart do not come together.  The place is random, or one of `places`.
    """

    crop: tuple[int, int]
    scales: tuple[float, ...] = ()  #: (): a crop has the size `crop`
    distortion: int = 1
    places: tuple[tuple[int, int], ...] = ()

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return the sizes of all crops of an image."""
        if not self.scales:
            return [self.crop]
        base, found = min(height, width), []
        for i, down in enumerate(self.scales):
            for j, across in enumerate(self.scales):
                if abs(i - j) <= self.distortion:
                    found.append((self._side(base, down, self.crop[0]), self._side(base, across, self.crop[1])))
        return found

    @staticmethod
    def _side(base: int, scale: float, own: int) -> int:
        side = int(base * np.float32(scale))
        return own if abs(side - own) < _NEAR else side

    def draw(self, rng: Stream, height: int, width: int) -> Part:
        """Draw the crop of an image of height x width; DataError for one that is larger than the image."""
        sizes, generator = self.sizes(height, width), rng.generator()
        crop_h, crop_w = sizes[int(generator.integers(len(sizes)))]
        room_h, room_w = height - crop_h, width - crop_w
        if min(room_h, room_w) < 0:
            raise DataError(f"transform_param: crop {crop_h}x{crop_w} is larger than the image, {height}x{width}")
        if self.places:
            down, right = self.places[int(generator.integers(len(self.places)))]
            return Part(down * (room_h // 4), right * (room_w // 4), crop_h, crop_w)
        down, right = (int(generator.integers(room, endpoint=True)) for room in (room_h, room_w))
        return Part(down, right, crop_h, crop_w)

    def __call__(self, image: np.ndarray, part: Part) -> np.ndarray:
        """Return the part of an image (C, H, W), resized to the size of the crop."""
        return resize(part.of(image), *self.crop)


def scaled_crop(param: TransformationParameter, crop: tuple[int, int]) -> ScaledCrop | None:
    """Return the crops of a TransformationParameter, whose crop has the size `crop`; None for the usual ones.

    DataError for fields that do not go together.
    """
    if not (param.multi_scale or param.fix_crop) or not all(crop):
        return None
    if param.HasField("mean_file"):
        raise DataError("transform_param: multi_scale and fix_crop need mean_value instead of mean_file")
    if any(not 0 < scale <= 1 for scale in param.scale_ratios):
        raise DataError(f"transform_param: scale_ratios must be above 0, and at most 1, got {list(param.scale_ratios)}")
    places = (_MORE_PLACES if param.more_fix_crop else _PLACES) if param.fix_crop else ()
    scales = tuple(param.scale_ratios) or _SCALES
    return ScaledCrop(crop, scales if param.multi_scale else (), param.max_distort, places)
