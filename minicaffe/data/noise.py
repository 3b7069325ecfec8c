"""noise_param of a transform_param, from the SSD fork: pictures are changed after they are resized.

Source: `ApplyNoise` (im_transforms.cpp).  Each operation is that of OpenCV on 8-bit pictures, to the bit (compared with
cv2 5.0), except `bgr_to_lab`.  As in the fork, the `prob` of a single one has no effect.  All
functions take and return (C, H, W).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minicaffe.data.color import bgr_to_gray, bgr_to_hsv, bgr_to_lab, bgr_to_ycrcb, ycrcb_to_bgr
from minicaffe.data.equalize import clahe, equalize_histogram
from minicaffe.data.image import decode_pixels, encode_image
from minicaffe.errors import DataError
from minicaffe.philox import Stream
from minicaffe.proto.caffe_pb2 import NoiseParameter

_BLUR = np.array([9, 29, 55, 70, 55, 29, 9], np.int32)  # Gauss with a deviation of 1.5 pixels, in 1/256
_OF_COLORS = ("decolorize", "convert_to_hsv", "convert_to_ycrcb", "convert_to_lab")
_LEVELS = 64  # grey levels that posterize makes equal
_CLIP = 4  # limit of CLAHE


class NoiseDraw(NamedTuple):
    """What is random about the noise of a picture."""

    seed: tuple[int, int] | None  #: of the points; None if there are none
    applied: frozenset[str]  #: the fields whose operations are applied


class Noise:
    """The operations of a NoiseParameter, in the fork's order.

    With `all_effects` given, as in jolibrain's Caffe, each selected operation but `jpeg` has the probability `prob`; if
    it is true, all are selected, saltpepper only with a value in saltpepper_param.
    DataError for values of saltpepper_param that cannot be applied.
    """

    def __init__(self, param: NoiseParameter) -> None:
        self.param = param
        points, self._every = param.saltpepper_param, param.all_effects
        self._chance = param.prob if param.HasField("all_effects") else 1.0
        selected = {name for name in _FLAGS if getattr(param, name) or (self._every and name not in _UNSELECTED)}
        if self._every and len(points.value):
            selected.add("saltpepper")
        is_finite = len(points.value) and np.isfinite(points.value).all()
        if "saltpepper" in selected and not (is_finite and 0 <= points.fraction <= 1):
            values = ", ".join(f"{value:g}" for value in points.value) or "none"
            raise DataError(
                "noise_param: saltpepper needs a fraction from 0 to 1, and one value or one per channel, in "
                f"saltpepper_param, got {points.fraction:g} and {values}"
            )
        self._selected = frozenset(selected)

    def draw(self, rng: Stream) -> NoiseDraw:
        """Draw the operations of a picture, and the seed of its points."""
        applied = self._selected
        if self._chance < 1:
            draws = rng.generator().random(len(_FLAGS))
            applied = frozenset(name for name, draw in zip(_FLAGS, draws) if name in applied and draw < self._chance)
        if "saltpepper" not in applied:
            return NoiseDraw(None, applied)
        seed, number = rng.generator().integers(1 << 63, size=2)
        return NoiseDraw((int(seed), int(number)), applied)

    def __call__(self, image: np.ndarray, drawn: NoiseDraw | None = None) -> np.ndarray:
        """Return the changed picture: uint8, or float32 after convert_to_lab.

        image: (C, H, W), uint8, BGR or gray.  drawn: the result of `draw`; None (default): all but the points.
        DataError for another type or number of channels.
        """
        applied, channels = self._selected if drawn is None else drawn.applied, len(image)
        if image.dtype != np.uint8 or channels not in (1, 3):
            raise DataError(
                f"noise_param: expected images of bytes with 1 or 3 channels, got {image.dtype} with {channels}"
            )
        if channels == 1 and (name := next((name for name in _OF_COLORS if name in applied), None)):
            if not self._every:
                raise DataError(f"noise_param: {name} needs images of 3 channels, got 1")
            applied = applied - set(_OF_COLORS)
        for name, operation in _OPERATIONS.items():
            if name == "jpeg":
                image = operation(image, quality=min(self.param.jpeg, 100)) if self.param.jpeg > 0 else image
            elif name in applied:
                image = operation(image)
        if drawn is not None and drawn.seed is not None:
            points = self.param.saltpepper_param
            image = with_points(image, points.fraction, points.value, Stream(*drawn.seed))
        for name, convert in _CONVERSIONS.items():
            image = convert(image) if name in applied else image
        return _in_bytes(image) if self._every else image


def decolorized(image: np.ndarray) -> np.ndarray:
    """Return three channels that are all the gray of the picture."""
    return bgr_to_gray(image).repeat(3, 0)


def blurred(image: np.ndarray) -> np.ndarray:
    """Blur with a Gauss filter of 7 x 7 pixels and a deviation of 1.5; the edge is mirrored."""
    padded = np.pad(image, ((0, 0), (3, 3), (3, 3)), "reflect").astype(np.int32)
    lines = sliding_window_view(padded, len(_BLUR), 2) @ _BLUR
    total = sliding_window_view(lines, len(_BLUR), 1) @ _BLUR
    return (total + (1 << 15) >> 16).astype(np.uint8)


def of_luma(change: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    """Apply a change of planes (H, W) to the luma of BGR, or to gray."""
    if len(image) == 1:
        return change(image[0])[None]
    luma, *chroma = bgr_to_ycrcb(image)
    return ycrcb_to_bgr(np.stack([change(luma), *chroma]))


def recompressed(image: np.ndarray, quality: float) -> np.ndarray:
    """Encode and decode as a JPEG; quality: above 0, to 100; cut to a whole number, 1 at least."""
    return decode_pixels(encode_image(image, "jpg", max(int(quality), 1)))


def eroded(image: np.ndarray) -> np.ndarray:
    """Return the minimum of each pixel and its four neighbours, the 3 x 3 ellipse."""
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), constant_values=255)
    middle = padded[:, 1:-1, 1:-1]
    across = np.minimum(padded[:, 1:-1, :-2], padded[:, 1:-1, 2:])
    down = np.minimum(padded[:, :-2, 1:-1], padded[:, 2:, 1:-1])
    return np.minimum(np.minimum(across, down), middle)


def posterized(image: np.ndarray) -> np.ndarray:
    """Return the middle of each value's range of 64 grey levels."""
    return image // _LEVELS * _LEVELS + _LEVELS // 2


def inverted(image: np.ndarray) -> np.ndarray:
    """Return 255 - x."""
    return ~image


def with_points(image: np.ndarray, fraction: float, values, rng: Stream) -> np.ndarray:
    """Set `fraction` of the pixels, drawn with replacement, to a value, or to one for each channel.

    The fork's value is cut to 8 bits.  DataError for another number of values.
    """
    channels, height, width = image.shape
    if len(values) not in (1, channels):
        raise DataError(f"noise_param: saltpepper_param must have one value or one per channel, got {len(values)}")
    count = int(np.float32(fraction) * np.float32(width) * np.float32(height))
    columns, rows = (rng.generator().integers(size, size=count) for size in (width, height))
    result = image.copy()
    result[:, rows, columns] = (np.array(values).astype(np.int64) & 255).astype(np.uint8)[:, None]
    return result


def _in_bytes(image: np.ndarray) -> np.ndarray:
    """Return a picture rounded to bytes, as jolibrain's is after convert_to_lab, so that a batch has one type."""
    return image if image.dtype == np.uint8 else np.rint(image).clip(0, 255).astype(np.uint8)


_OPERATIONS: dict[str, Callable[..., np.ndarray]] = {  # by the field that selects it, in the order of the fork
    "decolorize": decolorized,
    "gauss_blur": blurred,
    "hist_eq": functools.partial(of_luma, equalize_histogram),
    "clahe": functools.partial(of_luma, functools.partial(clahe, clip=_CLIP)),
    "jpeg": recompressed,
    "erode": eroded,
    "posterize": posterized,
    "inverse": inverted,
}
_CONVERSIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "convert_to_hsv": bgr_to_hsv,
    "convert_to_ycrcb": bgr_to_ycrcb,
    "convert_to_lab": bgr_to_lab,
}
_FLAGS = (*(name for name in _OPERATIONS if name != "jpeg"), "saltpepper", *_CONVERSIONS)
_UNSELECTED = ("saltpepper", "convert_to_ycrcb")  # by all_effects
