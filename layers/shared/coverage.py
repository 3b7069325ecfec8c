"""What DetectNet learns from: for each cell of a grid over the image, the box of an object that covers it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_SMALL = 1.2e-7  #: areas below it are none
_HEAD = 8  #: channels before those of the classes


class Coverage:
    """The labels of images for a DetectNetGroundTruthParameter.

    Boxes are rows [x, y, width, height, alpha, class, ...] in pixels.
    """

    def __init__(self, layer: Any, param: Any) -> None:
        self.param = param
        if not param.stride or not param.image_size_x or not param.image_size_y:
            raise layer.error("stride, image_size_x and image_size_y must be above 0")
        self.classes = {each.src: each.dst for each in param.object_class} or {1: 0}
        self.grid = round(param.image_size_y / param.stride), round(param.image_size_x / param.stride)

    @property
    def channels(self) -> int:
        return _HEAD + max(self.classes.values()) + 1

    def label(self, boxes: np.ndarray) -> np.ndarray:
        """Return (channels, rows, columns): whether a cell is covered; the corners of the box relative to the cell; 1 /
        width, 1 / height; the weight of the object; 1 for its class."""
        label, stride = np.zeros((self.channels, *self.grid)), self.param.stride
        for box in boxes:
            low, high = box[:2], box[:2] + box[2:4]
            if self.param.crop_bboxes:
                low, high = np.maximum(low, 0), np.minimum(high, (self.param.image_size_x, self.param.image_size_y))
            size, number = high - low, int(box[5])
            if number not in self.classes or size.min() <= 0 or size.prod() < _SMALL:
                continue
            middle, half = (low + high) / 2, self._covered(size) / 2
            near, far = middle - half, middle + half
            weight = max(0 if self.param.obj_norm else 1, stride**2 / max((far - near).prod(), _SMALL))
            rows, columns = self._cells(near, far)
            corner = np.stack([columns, rows]) * stride
            label[_HEAD:, rows, columns] = 0
            label[[0, _HEAD + self.classes[number]], rows[:, None], columns[:, None]] = 1
            label[1:3, rows, columns] = low[:, None] - corner
            label[3:5, rows, columns] = high[:, None] - corner
            label[5:7, rows, columns] = 1 / size[:, None]
            label[7, rows, columns] = weight
        return label

    def _covered(self, size: np.ndarray) -> np.ndarray:
        """Width and height of the part of a box that counts."""
        shrunk = size * self.param.scale_cvg
        if self.param.gridbox_type == self.param.GRIDBOX_MIN:
            return np.minimum(size, np.maximum(self.param.min_cvg_len, shrunk))
        return np.minimum(self.param.max_cvg_len, shrunk)

    def _cells(self, near: np.ndarray, far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and columns of the cells that have more than a point in common with a rectangle."""
        stride, spans = self.param.stride, []
        for a, b, n in zip(near, far, self.grid[::-1]):
            cells = np.arange(max(0, math.floor(a / stride)), min(n, math.ceil(b / stride)))
            spans.append((cells, np.minimum(b, (cells + 1) * stride) - np.maximum(a, cells * stride)))
        (columns, across), (rows, down) = spans
        common = np.maximum(down, 0)[:, None] * np.maximum(across, 0)
        row, column = np.nonzero(common / stride**2 > _SMALL)
        return rows[row], columns[column]
