"""Which annotated box belongs to each place of a map, where each place has a box of one size: the labels of MS-CNN
and Cascade R-CNN.

Source: Cai, Fan, Feris and Vasconcelos, A unified multi-scale deep convolutional neural network for fast object
detection, 2016, section 3.2; Cai and Vasconcelos, Cascade R-CNN, 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minicaffe.data.truth_windows import BOX, CLASS, IGNORE, REGION
from minicaffe.layers.shared.boxes import overlaps


class Map(NamedTuple):
    """A map: pixels for a place, and the size of the box that is centred at each place, in pixels."""

    stride: int
    width: int
    height: int

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of the map of an image."""
        return round_half_up(height / self.stride), round_half_up(width / self.stride)

    def boxes(self, height: int, width: int) -> np.ndarray:
        """Return the corners (4, rows * columns) of the boxes at all places of the map of an image."""
        rows, columns = self.size(height, width)
        y, x = ((np.arange(n, dtype=np.float32) + np.float32(0.5)) * self.stride for n in (rows, columns))
        x, y = np.tile(x, rows), np.repeat(y, columns)
        return np.stack([x - self.width / 2, y - self.height / 2, x + self.width / 2, y + self.height / 2])


class Rules(NamedTuple):
    """How the boxes of a fork belong to places.

    threshold: a place has the box that it overlaps most if that is by more.
    region_share: a place with this part of its box in regions does not count.
    least: a box that overlaps all places by less belongs to none.
    inclusive: boxes include their last pixel; a place in a region may have a box, and one that is picked for a box gets
    its overlap: Cascade R-CNN's, not MS-CNN's.
    margin: a place does not count whose box is outside of the image by more than this part of half of its side.
    least_inside: a place does not count with less than this part of its box in the image.  None: there is no such rule.
    """

    threshold: float
    region_share: float = 0.4
    least: float = 0.2
    inclusive: bool = False
    margin: float | None = None
    least_inside: float | None = None

    def corners(self, boxes: np.ndarray) -> np.ndarray:
        """Return the corners (4, n) of the areas of boxes (4, n)."""
        return boxes + np.array([[0], [0], [1], [1]], boxes.dtype) if self.inclusive else boxes

    def sides(self, boxes: np.ndarray) -> np.ndarray:
        """Return the widths and heights (n, 2) of boxes (n, 4)."""
        return boxes[:, 2:] - boxes[:, :2] + self.inclusive


def maps_of(strides: Sequence[int], widths: Sequence[int], heights: Sequence[int]) -> list[Map]:
    """Return the maps of repeated fields."""
    return [Map(*each) for each in zip(strides, widths, heights)]


def label_maps(maps: Sequence[Map], rows: np.ndarray, size: tuple[int, int], inside: Sequence[int], rules: Rules):
    """Return for each map the labels (6, rows, columns): class, centre x and y, width, height, overlap.

    rows: (n, 7), see truth_windows; size: height and width of the image; inside: top, left, height and width of the
    part of it that is not padding.

    The class is 0 at other places and at those of ignored boxes, and the overlap there is the largest one, or 1 in the
    padding and in regions: what overlaps by more than a loss's bg_threshold does not count as background.  A box that
    counts and belongs to no place gets the place at its centre in the map that has the box that overlaps it most.
    """
    boxes = rows[rows[:, CLASS] != REGION]
    regions = rules.corners(rows[rows[:, CLASS] == REGION][:, BOX].T)
    labels, best = [], []
    matched = np.zeros(len(boxes), bool)
    for each in maps:
        own, overlap, owners = _labels(each, boxes, regions, size, inside, rules)
        matched[owners] = True
        labels.append(own)
        best.append(overlap)
    best_of = np.array(best).reshape(len(maps), len(boxes))
    for number in np.flatnonzero(~matched & (boxes[:, IGNORE] == 0)) if maps else ():
        which = int(best_of[:, number].argmax())
        if best_of[which, number] < rules.least:
            continue
        target, centre = labels[which], (boxes[number, 2:4] + boxes[number, 4:6]) / 2
        column, row = (np.floor(centre / maps[which].stride)).astype(int)
        row, column = np.clip(row, 0, target.shape[1] - 1), np.clip(column, 0, target.shape[2] - 1)
        if not target[0, row, column] > 0:
            target[:5, row, column] = _code(boxes[number : number + 1], rules)[:, 0]
            if rules.inclusive:
                target[5, row, column] = best_of[which, number]
    return labels


def _labels(each: Map, boxes, regions, size, inside, rules: Rules):
    """Return the labels of a map, the largest overlap of each box with its places, and the boxes that have places."""
    rows, columns = each.size(*size)
    own, places = np.zeros((6, rows * columns), np.float32), each.boxes(*size)
    areas = rules.corners(places)
    outside = _outside(each, places, areas, (rows, columns), inside, rules)
    in_region = overlaps(areas, regions, over="first").sum(1) >= rules.region_share
    if not rules.inclusive:
        outside |= in_region
    shared = overlaps(rules.corners(boxes[:, BOX].T), areas)
    shared[:, outside] = 0
    owner, overlap = (shared.argmax(0), shared.max(0)) if len(boxes) else (np.zeros(own.shape[1], int), np.zeros(1))
    has_box = (overlap > max(rules.threshold, 0)) & ~outside
    own[5] = np.where(outside | in_region & ~has_box, 1, overlap)
    own[:5, has_box] = _code(boxes[owner[has_box]], rules)
    return own.reshape(6, rows, columns), shared.max(1, initial=0), np.unique(owner[has_box])


def _outside(each: Map, places, areas, size, inside, rules: Rules) -> np.ndarray:
    """Return which places do not count, as they are in the padding or have too much of their box outside, (n,)."""
    top, left, height, width = (round_half_up(edge / each.stride) for edge in inside)
    outside = np.ones(size, bool)
    outside[top : top + height, left : left + width] = False
    flat = outside.ravel()
    first = np.array([inside[1], inside[0]], np.float32)
    last = first + np.array([inside[3], inside[2]], np.float32)
    if rules.margin is not None:
        room = rules.margin * np.array([each.width, each.height], np.float32) / 2
        flat |= ((places[:2].T < first - room) | (places[2:].T >= last + room)).any(1)
    elif rules.least_inside is not None:
        image = rules.corners(np.concatenate([first, last])[:, None])
        flat |= overlaps(areas, image, over="first")[:, 0] < rules.least_inside
    return flat


def _code(boxes: np.ndarray, rules: Rules) -> np.ndarray:
    """Return class (0 if ignored), centre x and y, width and height (5, n) of rows (n, 7)."""
    labels = np.where(boxes[:, IGNORE] == 0, boxes[:, CLASS], 0)
    return np.concatenate([labels[None], ((boxes[:, 2:4] + boxes[:, 4:6]) / 2).T, rules.sides(boxes[:, BOX]).T])


def round_half_up(value: float) -> int:
    """Round to the nearest integer, halves up."""
    return int(np.floor(value + 0.5))
