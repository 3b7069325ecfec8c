"""What MS-CNN's training does to images with boxes: flip, resize, scale at random, cut or pad to one size."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from minicaffe.data.image import resize
from minicaffe.data.transformer import NUMBERED, BatchTransformer, Images, Labels, Name
from minicaffe.data.truth_windows import CLASS, IGNORE, REGION
from minicaffe.data.workers import Each, in_turn
from minicaffe.errors import DataError
from minicaffe.layers.shared.truth_maps import label_maps, maps_of, rounded

_PER_OCTAVE = 2  # sizes that a box may get between min_scale and max_scale
_ASPECT_STEP = 0.05
_JITTER = 10  # pixels
_LARGE = 1.5  # an image that grows by more is first cut to what can be seen, with this margin:
_MARGIN = 1.2


class _Draw(NamedTuple):
    """Random numbers of an image, 32 bits each, of which some are used."""

    flip: int
    which: int  #: box, or column of the crop
    row: int  #: of the crop, without boxes
    scales: int
    size: int
    reshapes: int
    aspect: int
    widens: int
    right: int
    down: int


class TruthTransformer(BatchTransformer):
    """The transformation of an ImageGtData layer.

    param: its image_gt_data_param.  common: its transform_param, of which mean_value and mirror count.
    train, rng, and errors: as for `BatchTransformer`.
    """

    on_host_only = True  # type: ignore[assignment]  # of any parameters

    def __init__(self, param, common, train, rng) -> None:
        super().__init__(common, train, rng)
        self.param, self.scale = param, param.scale
        self.maps = maps_of(param)

    def resized_shape(self, shape):
        if self.param.resize_width and self.param.resize_height:
            return shape[0], self.param.resize_height, self.param.resize_width
        return tuple(shape)

    def output_shape(self, shape):
        channels, height, width = self.resized_shape(shape)
        crop_h, crop_w = self.param.crop_height or height, self.param.crop_width or width
        if crop_h > height or crop_w > width:
            raise DataError(f"image_gt_data_param: crop {crop_h}x{crop_w} is larger than the image, {height}x{width}")
        return channels, crop_h, crop_w

    def apply(
        self, images: Images, labels: Labels, dtype: np.dtype, each: Each = in_turn, name: Name = NUMBERED
    ) -> tuple[np.ndarray, ...]:
        """Return the images (N, C, H, W) and the labels of each map (N, 6, h, w), then the boxes (n, 7, 1, 1)."""
        draws = [_Draw(*row) for row in self.rng.uniform_u32(len(_Draw._fields) * len(images)).reshape(-1, 10).tolist()]
        out = np.zeros((len(images), *self.output_shape(images[0].shape)), dtype)
        maps = [np.empty((len(images), 6, *own.size(*out.shape[2:])), dtype) for own in self.maps]
        boxes: list[np.ndarray] = [np.empty(0)] * len(images)

        def transform(i: int) -> None:
            rows = np.array(labels[i])
            inside = self._place(images[i], rows, draws[i], out[i])
            self._ignore(rows, out.shape[2:])
            for target, own in zip(maps, label_maps(self.maps, rows, out.shape[2:], inside, self.param.fg_threshold)):
                target[i] = own
            kept = rows[rows[:, CLASS] != REGION]
            boxes[i] = np.column_stack([np.full(len(kept), i), kept[:, 2:], kept[:, :2]])

        each(transform, len(images))
        found = np.concatenate(boxes)
        if not len(found):
            found = np.array([[0, 1, 1, 2, 2, 1, 1]])
        return (out, *maps, *([found.reshape(-1, 7, 1, 1).astype(dtype)] if self.param.output_gt_boxes else []))

    def _ignore(self, rows: np.ndarray, size: tuple[int, ...]) -> None:
        """Mark the boxes whose centre is outside of the image, and those that are too small."""
        first, last = rows[:, 2:4], rows[:, 4:6]
        centre, least = (first + last) / 2, (self.param.min_gt_width, self.param.min_gt_height)
        gone = ((centre < 0) | (centre >= size[::-1])).any(1) | (last - first + 1 < least).any(1)
        rows[gone, IGNORE] = 1

    def _place(self, image: np.ndarray, rows: np.ndarray, draw: _Draw, out: np.ndarray) -> tuple[int, ...]:
        """Write the transformed image into `out` (C, H, W), move its rows; return its top, left, height, width."""
        if self.mirror and draw.flip % 2:
            image = image[..., ::-1]
            rows[:, [2, 4]] = image.shape[2] - rows[:, [4, 2]]
        _, height, width = self.resized_shape(image.shape)
        image = _resized(image, rows, height, width)
        boxes = np.flatnonzero(rows[:, CLASS] != REGION)
        chosen = rows[boxes[draw.which % len(boxes)]] if len(boxes) else None
        centre, factors = self._centre(image, chosen, draw, out.shape), (1.0, 1.0)
        if chosen is not None and self._scales and draw.scales % 2:
            factors = self._factors(chosen[4:6] - chosen[2:4], draw)
        if max(factors) > _LARGE:
            image, centre = _cut_out(image, rows, centre, factors)
        if factors != (1.0, 1.0):
            image = _resized(image, rows, *(rounded(n * f) for n, f in zip(image.shape[1:], factors[::-1])))
        spans = [
            _span(image.shape[1 + axis], out.shape[1 + axis], rounded(centre[1 - axis] * factors[1 - axis]), jitter)
            for axis, jitter in enumerate((draw.down % (2 * _JITTER) - _JITTER, draw.right % (2 * _JITTER) - _JITTER))
        ]
        (source_y, y, rows_copied), (source_x, x, columns) = spans
        rows[:, [2, 4]] += x - source_x
        rows[:, [3, 5]] += y - source_y
        part = image[:, source_y : source_y + rows_copied, source_x : source_x + columns]
        mean = 0 if self.mean is None else self.mean
        out[:, y : y + rows_copied, x : x + columns] = (part - mean) * self.scale
        return y, x, rows_copied, columns

    @property
    def _scales(self) -> bool:
        return self.param.do_multiple_scale and self.param.HasField("min_scale") and self.param.HasField("max_scale")

    def _centre(self, image, chosen, draw: _Draw, shape) -> tuple[float, float]:
        """Return x and y of what the result is centred at: a box, or a random place where there is none."""
        if chosen is not None:
            return tuple((chosen[2:4] + chosen[4:6]) / 2)
        return tuple(
            number % (size - crop + 1) + crop / 2 if size >= crop else size / 2
            for number, size, crop in ((draw.which, image.shape[2], shape[2]), (draw.row, image.shape[1], shape[1]))
        )

    def _factors(self, size: np.ndarray, draw: _Draw) -> tuple[float, float]:
        """Return the factors of the width and height of an image whose chosen box has this size."""
        param = self.param
        octaves = np.arange(rounded(_PER_OCTAVE * math.log2(param.max_scale / param.min_scale) + 1)) / _PER_OCTAVE
        areas, area = (param.min_scale * 2**octaves) ** 2, float(size.prod())
        present = octaves[(np.minimum(areas, area) / np.maximum(areas, area)).argmax()]
        factor = 2.0 ** (octaves[draw.size % len(octaves)] - present)
        factors = [factor, factor]
        if param.HasField("min_whaspect") and param.HasField("max_whaspect") and draw.reshapes % 2:
            steps = max(1, rounded((param.max_whaspect - param.min_whaspect) / _ASPECT_STEP))
            aspect = draw.aspect % steps * _ASPECT_STEP + param.min_whaspect
            multiplier, axis = aspect / (size[0] / size[1]), 0 if draw.widens % 2 else 1
            changed = factor * (multiplier if axis == 0 else 1 / multiplier)
            if 0.8 * param.min_scale <= size[axis] * changed <= 1.2 * param.max_scale:
                factors[axis] = float(changed)
        return factors[0], factors[1]


def _resized(image: np.ndarray, rows: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the image resized, its rows with it."""
    if image.shape[1:] == (height, width):
        return image
    rows[:, [2, 4]] *= width / image.shape[2]
    rows[:, [3, 5]] *= height / image.shape[1]
    return resize(np.ascontiguousarray(image), height, width)


def _cut_out(image, rows, centre, factors) -> tuple[np.ndarray, tuple[float, float]]:
    """Return the part of an image around `centre` that can be seen when it is enlarged, and the centre in it."""
    start, size = [0, 0], [0, 0]
    for axis, whole in enumerate(image.shape[:0:-1]):
        size[axis] = min(rounded(_MARGIN * whole / factors[axis]), whole)
        start[axis] = min(max(rounded(centre[axis] - size[axis] / 2), 0), whole - size[axis])
    rows[:, 2:4] -= start
    rows[:, 4:6] -= start
    part = image[:, start[1] : start[1] + size[1], start[0] : start[0] + size[0]]
    return part, (centre[0] - start[0], centre[1] - start[1])


def _span(size: int, target: int, centre: int, jitter: int) -> tuple[int, int, int]:
    """Return first source place, first target place and length of what is copied along an axis."""
    if size < target:
        return 0, min(max(0, rounded((target - size) / 2) + jitter), target - size), size
    return min(max(0, centre + jitter - rounded(target / 2)), size - target), 0, target
