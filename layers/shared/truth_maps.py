"""Which annotated box belongs to each place of a map, where each place has a box of one size: the labels of MS-CNN.

Source: Cai, Fan, Feris and Vasconcelos, A unified multi-scale deep convolutional neural network for fast object
detection, 2016, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minicaffe.data.truth_windows import BOX, CLASS, IGNORE, REGION
from minicaffe.layers.shared.boxes import overlaps

_REGION_SHARE = 0.4  # a place with this part of its box in regions does not count
_LEAST_OVERLAP = 0.2  # a box that overlaps all places by less belongs to none


class Map(NamedTuple):
    """A map: pixels for a place, and the size of the box that is centred at each place, in pixels."""

    stride: int
    width: int
    height: int

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of the map of an image."""
        return rounded(height / self.stride), rounded(width / self.stride)

    def boxes(self, height: int, width: int) -> np.ndarray:
        """Return the corners (4, rows * columns) of the boxes at all places of the map of an image."""
        rows, columns = self.size(height, width)
        y, x = ((np.arange(n, dtype=np.float32) + np.float32(0.5)) * self.stride for n in (rows, columns))
        x, y = np.tile(x, rows), np.repeat(y, columns)
        return np.stack([x - self.width / 2, y - self.height / 2, x + self.width / 2, y + self.height / 2])


def maps_of(param) -> list[Map]:
    """Return the maps of an image_gt_data_param."""
    return [Map(*each) for each in zip(param.downsample_rate, param.field_w, param.field_h)]


def label_maps(maps: Sequence[Map], rows: np.ndarray, size: tuple[int, int], inside: Sequence[int], threshold: float):
    """Return for each map the labels (6, rows, columns): class, centre x and y, width, height, overlap.

    rows: (n, 6), see truth_windows; size: height and width of the image; inside: top, left, height and width of the
    part of it that is not padding; threshold: a place has the box that it overlaps most if that is by more.

    The class is 0 at other places and at those of ignored boxes, and the overlap there is the largest one, or 1 in the
    padding and in regions: what overlaps by more than a loss's bg_threshold does not count as background.  A box that
    counts and belongs to no place gets the place at its centre in the map that has the box that overlaps it most.
    """
    boxes = rows[rows[:, CLASS] != REGION]
    regions = rows[rows[:, CLASS] == REGION][:, BOX].T
    labels, best = [], []
    matched = np.zeros(len(boxes), bool)
    for each in maps:
        own, overlap, owners = _labels(each, boxes, regions, size, inside, threshold)
        matched[owners] = True
        labels.append(own)
        best.append(overlap)
    best_of = np.array(best).reshape(len(maps), len(boxes))
    for number in np.flatnonzero(~matched & (boxes[:, IGNORE] == 0)):
        which = int(best_of[:, number].argmax())
        if best_of[which, number] < _LEAST_OVERLAP:
            continue
        target, centre = labels[which], (boxes[number, 2:4] + boxes[number, 4:6]) / 2
        column, row = (np.floor(centre / maps[which].stride)).astype(int)
        row, column = np.clip(row, 0, target.shape[1] - 1), np.clip(column, 0, target.shape[2] - 1)
        if not target[0, row, column] > 0:
            target[:5, row, column] = _code(boxes[number : number + 1])[:, 0]
    return labels


def _labels(each: Map, boxes, regions, size, inside, threshold):
    """Return the labels of a map, the largest overlap of each box with its places, and the boxes that have places."""
    rows, columns = each.size(*size)
    own, places = np.zeros((6, rows * columns), np.float32), each.boxes(*size)
    top, left, height, width = (rounded(edge / each.stride) for edge in inside)
    outside = np.ones((rows, columns), bool)
    outside[top : top + height, left : left + width] = False
    outside = outside.ravel() | (overlaps(places, regions, over="first").sum(1) >= _REGION_SHARE)
    shared = overlaps(boxes[:, BOX].T, places)
    shared[:, outside] = 0
    owner, overlap = (shared.argmax(0), shared.max(0)) if len(boxes) else (np.zeros(own.shape[1], int), np.zeros(1))
    has_box = (overlap > max(threshold, 0)) & ~outside
    own[5] = np.where(outside, 1, overlap)
    own[:5, has_box] = _code(boxes[owner[has_box]])
    return own.reshape(6, rows, columns), shared.max(1, initial=0), np.unique(owner[has_box])


def _code(boxes: np.ndarray) -> np.ndarray:
    """Return class (0 if ignored), centre x and y, width and height (5, n) of rows (n, 6)."""
    first, last = boxes[:, 2:4], boxes[:, 4:6]
    labels = np.where(boxes[:, IGNORE] == 0, boxes[:, CLASS], 0)
    return np.concatenate([labels[None], ((first + last) / 2).T, (last - first).T])


def rounded(value: float) -> int:
    """Round to the nearest integer, halves up."""
    return math.floor(value + 0.5)
