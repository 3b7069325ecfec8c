"""Boxes from maps of several scales: BoxOutput and BoxGroupOutput.

At each place of a map are A boxes of given sizes, centred there, each with a score and a code: (dx / w, dy / h,
log(w' / w), log(h' / h)), the move of the centre and the factor of the sides.
Source: Cai, Fan, Feris and Vasconcelos, A unified multi-scale deep convolutional neural network for fast object
detection, 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.layers.shared.boxes import suppress
from minicaffe.layers.shared.pixel_boxes import CodeStatistics

OVER = {"IOU": "union", "IOMU": "smaller", "IOFU": "first"}  #: what nms_type divides overlaps by


class Fields(NamedTuple):
    """The boxes of a map.

    sizes: (A, 2), widths and heights in pixels.  stride: pixels of the image for a place.
    """

    sizes: np.ndarray
    stride: int


def decoded(codes: np.ndarray, sizes: np.ndarray, places: np.ndarray, stride: int, param) -> tuple:
    """Return the centres and the sizes (n, 2), in pixels, of codes (n, 4) of boxes.

    sizes: (n, 2), of the boxes at the places.  places: (n, 2), columns and rows.  stride: as of `Fields`.
    param: its field_xyr and field_whr limit the codes.
    """
    limit = code_limits(param).astype(codes.dtype)
    codes = np.clip(codes, -limit, limit)
    centres = (places.astype(codes.dtype) + codes.dtype.type(0.5)) * codes.dtype.type(stride)
    return codes[:, :2] * sizes + centres, sizes * np.exp(codes[:, 2:])


def code_limits(param) -> np.ndarray:
    """Return the largest absolute value of each number of a code, (4,)."""
    return np.array([1 / param.field_xyr] * 2 + [math.log(param.field_whr)] * 2)


class MapBoxes(Layer):
    """Base of layers that decode the boxes of maps and drop those that overlap a better one.

    A subclass gives the message, the boxes of each map, and the scores and codes of each.
    """

    more_params = ("bbox_reg_param",)
    min_bottom = 1
    min_top, max_top = 1, 2
    always_reshape = True
    capturable = False  # the number of boxes depends on values
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.param = param = self.message()
        self.statistics, self.fields = CodeStatistics(self), self.read_fields(len(bottom))
        if param.nms_type not in OVER:
            raise self.error(f"nms_type must be one of {', '.join(OVER)}, got '{param.nms_type}'")
        if not min(param.field_whr, param.field_xyr) > 0:
            raise self.error(f"field_whr and field_xyr must be above 0, got {param.field_whr:g}, {param.field_xyr:g}")

    def message(self):
        """Return the message with the layer's parameters."""
        raise NotImplementedError

    def read_fields(self, bottoms: int) -> list[Fields]:
        """Return the boxes of each map; raise LayerError if the parameters are not those of so many bottoms."""
        raise NotImplementedError

    def maps(self, bottom) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each map the scores (N, A, H, W) and the codes (N, A, 4, H, W)."""
        raise NotImplementedError

    def clipped(self, start: np.ndarray, size: np.ndarray, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the boxes (n, 4) inside a picture (width, height), and their sizes (n, 2).

        start, size: (n, 2), left and upper corner, and sides.
        """
        raise NotImplementedError

    def areas(self, boxes: np.ndarray) -> np.ndarray:
        """Return the corners of the areas of boxes, which are compared."""
        raise NotImplementedError

    def top_shapes(self, bottom_shapes):
        return [(1, 5, 1, 1), (1, 6, 1, 1)]

    def forward_cpu(self, bottom, top):
        maps = self.maps(bottom)
        found = [self._detect(n, maps) for n in range(len(maps[0][0]))]
        rows = np.concatenate(found) if found else np.zeros((0, 6), self.dtype)
        if not len(rows):
            rows = np.array([[0, 1, 1, 10, 10, 0]], self.dtype)
        scored = rows if any(map(len, found)) else np.zeros((1, 6), self.dtype)
        for blob, values in zip(top, (rows[:, :5], scored)):
            blob.reshape(*values.shape, 1, 1)
            blob.data = values.reshape(blob.shape)

    def _detect(self, n: int, maps: Sequence) -> np.ndarray:
        """Return the rows (image, box, score) of image n, the best first."""
        parts = [self._candidates(scores[n], codes[n], own) for (scores, codes), own in zip(maps, self.fields)]
        scores, boxes = (np.concatenate(each) for each in zip(*parts))
        order = np.lexsort((np.arange(len(scores)), scores))[::-1][: self.param.max_nms_num or None]
        kept = suppress(self.areas(boxes[order]), self.param.iou_thr, over=OVER[self.param.nms_type])
        order = order[kept[: self.param.max_post_nms_num or None]]
        return np.column_stack([np.full(len(order), n, self.dtype), boxes[order], scores[order]])

    def _candidates(self, scores: np.ndarray, codes: np.ndarray, own: Fields) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores (n,) and boxes (n, 4) of a map that count."""
        picture = np.array(scores.shape[:0:-1]) * own.stride  # width, height
        which, row, column = np.nonzero(scores >= self.param.fg_thr)
        codes = self.statistics.restored(codes[which, :, row, column])
        sizes, places = own.sizes[which].astype(self.dtype), np.column_stack([column, row])
        centre, size = decoded(codes, sizes, places, own.stride, self.param)
        boxes, size = self.clipped(centre - size / 2, size, picture.astype(self.dtype))
        large = (size >= self.param.min_size).all(1)
        return scores[which, row, column][large], boxes[large]
