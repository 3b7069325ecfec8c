"""What MS-CNN and Cascade R-CNN do to images with boxes: flip, resize, scale at random, cut or pad to one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minicaffe.data.image import resize
from minicaffe.data.transformer import NUMBERED, BatchTransformer, Images, Labels, Name
from minicaffe.data.truth_windows import CLASS, IGNORE, REGION
from minicaffe.data.workers import Each, in_turn
from minicaffe.layers.shared.truth_maps import Map, Rules, label_maps, round_half_up

_JITTER = 10  # pixels
_LARGE = 1.5  # an image that grows by more is first cut to what can be seen, with this margin:
_MARGIN = 1.2


class Draw(NamedTuple):
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
    """Base of the transformations of images with boxes: a layer's fork says which sizes and factors images get.

    param: the layer's message.  common: its transform_param, of which mean_value, mirror and scale count.
    train, rng, and errors: as for `BatchTransformer`.
    maps, rules: of the labels.  gives_boxes: whether there is a top with the boxes; empty_row: its row without any.
    """

    on_host_only = True  # type: ignore[assignment]  # of any parameters
    maps: Sequence[Map] = ()
    rules = Rules(1)
    gives_boxes = True
    empty_row: Sequence[float]

    def __init__(self, param, common, train, rng) -> None:
        super().__init__(common, train, rng)
        self.param = param

    def resized_shape(self, shape, ratio: float = 1.0):
        """Return (C, H, W) of the resized image; ratio: factor of the batch's sizes, where the fork has one."""
        raise NotImplementedError

    def output_shape(self, shape, ratio: float = 1.0):
        """Return (C, H, W) of the batch, given the shape of its first image."""
        raise NotImplementedError

    def factors(self, box: np.ndarray | None, draw: Draw) -> tuple[float, float]:
        """Return the factors of the width and height of a resized image.

        box: the row of the box that is chosen, None if there is none.
        """
        raise NotImplementedError

    def ratio(self) -> float:
        """Return the factor of the sizes of the next batch."""
        return 1.0

    def prepared(self, images: Images, each: Each) -> Images:
        """Return the images, changed before everything else."""
        return images

    def box_rows(self, image: int, rows: np.ndarray) -> np.ndarray:
        """Return the rows that the top with the boxes has for an image's rows (n, 7)."""
        raise NotImplementedError

    def draws(self, count: int) -> list[Draw]:
        """Draw the random numbers of `count` images."""
        length = len(Draw._fields)
        return [Draw(*row) for row in self.rng.uniform_u32(length * count).reshape(-1, length).tolist()]

    def apply(
        self, images: Images, labels: Labels, dtype: np.dtype, each: Each = in_turn, name: Name = NUMBERED
    ) -> tuple[np.ndarray, ...]:
        """Return the images (N, C, H, W) and the labels of each map (N, 6, h, w), then the boxes (n, columns, 1, 1)."""
        ratio, draws, images = self.ratio(), self.draws(len(images)), self.prepared(images, each)
        out = np.zeros((len(images), *self.output_shape(images[0].shape, ratio)), dtype)
        maps = [np.empty((len(images), 6, *own.size(*out.shape[2:])), dtype) for own in self.maps]
        boxes: list[np.ndarray] = [np.empty(0)] * len(images)

        def transform(i: int) -> None:
            rows = np.array(labels[i])
            inside = self._place(images[i], rows, draws[i], out[i], ratio)
            self.ignore(rows, out.shape[2:])
            for target, own in zip(maps, label_maps(self.maps, rows, out.shape[2:], inside, self.rules)):
                target[i] = own
            boxes[i] = self.box_rows(i, rows[rows[:, CLASS] != REGION])

        each(transform, len(images))
        if not self.gives_boxes:
            return out, *maps
        found = np.concatenate(boxes)
        if not len(found):
            found = np.array([self.empty_row])
        return out, *maps, found.reshape(*found.shape, 1, 1).astype(dtype)

    def ignore(self, rows: np.ndarray, size: tuple[int, ...]) -> None:
        """Mark the boxes whose centre is outside of the image, and those that are too small."""
        first, last = rows[:, 2:4], rows[:, 4:6]
        centre, least = (first + last) / 2, (self.param.min_gt_width, self.param.min_gt_height)
        gone = ((centre < 0) | (centre >= size[::-1])).any(1) | (last - first + 1 < least).any(1)
        rows[gone, IGNORE] = 1

    def _place(self, image: np.ndarray, rows: np.ndarray, draw: Draw, out: np.ndarray, ratio: float):
        """Write the transformed image into `out` (C, H, W), move its rows; return its top, left, height, width."""
        if self.mirror and draw.flip % 2:
            image = image[..., ::-1]
            rows[:, [2, 4]] = image.shape[2] - rows[:, [4, 2]]
        _, height, width = self.resized_shape(image.shape, ratio)
        image = _resized(image, rows, height, width)
        boxes = np.flatnonzero(rows[:, CLASS] != REGION)
        chosen = rows[boxes[draw.which % len(boxes)]] if len(boxes) else None
        centre, factors = self._centre(image, chosen, draw, out.shape), self.factors(chosen, draw)
        if max(factors) > _LARGE:
            image, centre = _cut_out(image, rows, centre, factors)
        if factors != (1.0, 1.0):
            image = _resized(image, rows, *(round_half_up(n * f) for n, f in zip(image.shape[1:], factors[::-1])))
        spans = [
            _span(
                image.shape[1 + axis], out.shape[1 + axis], round_half_up(centre[1 - axis] * factors[1 - axis]), jitter
            )
            for axis, jitter in enumerate((draw.down % (2 * _JITTER) - _JITTER, draw.right % (2 * _JITTER) - _JITTER))
        ]
        (source_y, y, rows_copied), (source_x, x, columns) = spans
        rows[:, [2, 4]] += x - source_x
        rows[:, [3, 5]] += y - source_y
        part = image[:, source_y : source_y + rows_copied, source_x : source_x + columns]
        mean = 0 if self.mean is None else self.mean
        out[:, y : y + rows_copied, x : x + columns] = (part - mean) * self.scale
        return y, x, rows_copied, columns

    def _centre(self, image, chosen, draw: Draw, shape) -> tuple[float, float]:
        """Return x and y of what the result is centred at: a box, or a random place where there is none."""
        if chosen is not None:
            return tuple((chosen[2:4] + chosen[4:6]) / 2)
        return tuple(
            number % (size - crop + 1) + crop / 2 if size >= crop else size / 2
            for number, size, crop in ((draw.which, image.shape[2], shape[2]), (draw.row, image.shape[1], shape[1]))
        )


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
        size[axis] = min(round_half_up(_MARGIN * whole / factors[axis]), whole)
        start[axis] = min(max(round_half_up(centre[axis] - size[axis] / 2), 0), whole - size[axis])
    rows[:, 2:4] -= start
    rows[:, 4:6] -= start
    part = image[:, start[1] : start[1] + size[1], start[0] : start[0] + size[0]]
    return part, (centre[0] - start[0], centre[1] - start[1])


def _span(size: int, target: int, centre: int, jitter: int) -> tuple[int, int, int]:
    """Return first source place, first target place and length of what is copied along an axis."""
    if size < target:
        return 0, min(max(0, round_half_up((target - size) / 2) + jitter), target - size), size
    return min(max(0, centre + jitter - round_half_up(target / 2)), size - target), 0, target
