"""distort_param of a transform_param, from the SSD fork: brightness, contrast, saturation and hue change at random."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicaffe.data.color import bgr_to_hsv, hsv_to_bgr, scaled
from minicaffe.errors import DataError
from minicaffe.proto.caffe_pb2 import DistortionParameter

_CHANGES = ("brightness", "contrast", "saturation", "hue", "random_order")


class Distortion(NamedTuple):
    """The distortion of one image, as it was drawn; a value of None leaves the image as it is in this respect."""

    brightness: float | None  #: added to all values
    contrast: float | None  #: factor of all values
    contrast_last: bool  #: contrast after saturation and hue, not before
    saturation: float | None  #: factor of the saturation, 0 .. 255
    hue: float | None  #: added to the hue, 0 .. 179, and not to less than 0
    order: tuple[int, ...] | None  #: of the channels

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the distorted image (C, H, W) uint8; saturation, hue and order change images of three channels only.

        Values are rounded and clipped to 0 .. 255 after each step.  Saturation and hue are changed in one conversion to
        HSV and back.
        """
        factor = None if self.contrast_last else self.contrast
        if self.brightness is not None or factor is not None:
            table = scaled(np.arange(256, dtype=np.uint8), 1, self.brightness or 0)  # what becomes of each value
            image = (table if factor is None else scaled(table, factor)).take(image)
        if len(image) == 3 and (self.saturation is not None or self.hue is not None):
            image = self._in_hsv(image)
        if self.contrast is not None and self.contrast_last:
            image = scaled(image, self.contrast)
        return image[list(self.order)] if self.order is not None and len(image) == 3 else image

    def _in_hsv(self, image: np.ndarray) -> np.ndarray:
        hsv = bgr_to_hsv(image)
        if self.saturation is not None:
            hsv[1] = scaled(hsv[1], self.saturation)
        if self.hue is not None:
            hsv[0] = scaled(hsv[0], 1, self.hue)
        return hsv_to_bgr(hsv)


class Distorter:
    """The random distortions of a DistortionParameter.

    Each change has a probability of its own, or by jolibrain's fields the one `prob`, if it is selected.  Contrast
    comes before saturation and hue or after them, each with probability 1/2, as in Howard, "Some Improvements on Deep
    Convolutional Neural Network Based Image Classification", 2013, and the SSD fork.
    DataError for limits that are no interval of numbers from 0 on.
    """

    def __init__(self, param: DistortionParameter) -> None:
        self.param, self.chances = param, _chances(param)
        for name in ("contrast", "saturation"):
            low, high = getattr(param, f"{name}_lower"), getattr(param, f"{name}_upper")
            if self.chances[name] > 0 and not 0 <= low <= high < np.inf:
                raise DataError(
                    f"distort_param: {name}_lower and {name}_upper must be 0 <= lower <= upper, got {low:g}, {high:g}"
                )
        for name in ("brightness", "hue"):
            delta = getattr(param, f"{name}_delta")
            if self.chances[name] > 0 and not 0 <= delta < np.inf:
                raise DataError(f"distort_param: {name}_delta must be a number from 0 on, got {delta:g}")

    def draw(self, generator: np.random.Generator) -> Distortion:
        """Draw the distortion of an image: always 10 numbers, and a permutation of three."""
        param, (half, *draws), order = self.param, generator.random(10).tolist(), generator.permutation(3)

        def value(index: int, name: str, low: float, high: float) -> float | None:
            chance, share = draws[2 * index : 2 * index + 2]
            return low + share * (high - low) if chance < self.chances[name] else None

        return Distortion(
            value(0, "brightness", -param.brightness_delta, param.brightness_delta),
            value(1, "contrast", param.contrast_lower, param.contrast_upper),
            half <= 0.5,
            value(2, "saturation", param.saturation_lower, param.saturation_upper),
            value(3, "hue", -param.hue_delta, param.hue_delta),
            tuple(order.tolist()) if draws[8] < self.chances["random_order"] else None,
        )


def _chances(param: DistortionParameter) -> dict[str, float]:
    """Return the probability of each change; DataError for the fields of both forks."""
    of_jolibrain = [name for name in ("prob", "all_effects", *_CHANGES) if param.HasField(name)]
    of_ssd = [f"{name}_prob" for name in _CHANGES if param.HasField(f"{name}_prob")]
    if of_jolibrain and of_ssd:
        raise DataError(f"distort_param: {of_ssd[0]} is SSD's and {of_jolibrain[0]} jolibrain's: give one kind of them")
    if of_jolibrain:
        return {name: param.prob if param.all_effects or getattr(param, name) else 0.0 for name in _CHANGES}
    return {name: getattr(param, f"{name}_prob") for name in _CHANGES}
