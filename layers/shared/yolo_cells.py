"""YOLO v1's cells: what a net predicts for S x S cells of an image, and the labels that BoxData gives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicaffe.core.layer import Layer, Shape


class Cells(NamedTuple):
    """How many cells, classes and boxes there are, and how boxes are coded."""

    side: int  #: S
    classes: int  #: C
    boxes: int  #: B, of a cell
    roots: bool  #: whether widths and heights are square roots
    inside: bool  #: whether x and y are those in the cell

    @classmethod
    def of(cls, layer: Layer, param) -> Cells:
        """Read a DetectionLossParameter or an EvalDetectionParameter; LayerError for a number that is 0."""
        cells = cls(param.side, param.num_class, param.num_object, param.sqrt, param.constriant)
        if 0 in cells[:3]:
            raise layer.error(f"side, num_class and num_object must be at least 1, got {list(cells[:3])}")
        return cells

    def check(self, layer: Layer, x: Shape, labels: Shape) -> None:
        """Raise LayerError unless bottoms 0 and 1 are predictions and labels of these cells."""
        count = self.side * self.side
        for index, shape, numbers in ((0, x, self.classes + 5 * self.boxes), (1, labels, 7)):
            if len(shape) < 2 or shape[:1] != x[:1] or int(np.prod(shape[1:])) != count * numbers:
                raise layer.error(
                    f"bottom {index} must be (N, {count * numbers}), {numbers} numbers for each of {count} cells, got "
                    f"{shape}"
                )

    def parts(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return views of predictions: classes (N, C, S S), confidences (N, B, S S), boxes (N, B, 4, S S)."""
        count = self.side * self.side
        x = x.reshape(len(x), self.classes + 5 * self.boxes, count)
        boxes = x[:, self.classes + self.boxes :].reshape(len(x), self.boxes, 4, count)
        return x[:, : self.classes], x[:, self.classes : self.classes + self.boxes], boxes

    def labels(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return difficult, is-object, class, each (N, S S), and boxes (N, S S, 4), centre and size in the image."""
        count = self.side * self.side
        rows = labels.reshape(len(labels), 7 * count)
        difficult, objects, classes = (rows[:, k * count : (k + 1) * count] for k in range(3))
        return difficult != 0, objects != 0, classes, rows[:, 3 * count :].reshape(len(rows), count, 4)

    def in_image(self, boxes: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Return boxes, (4, ...), as centre and size in the image, given the number of their cells, (...)."""
        boxes = boxes.copy()
        if self.inside:
            boxes[0] = (cell % self.side + boxes[0]) / self.side
            boxes[1] = (cell // self.side + boxes[1]) / self.side
        if self.roots:
            boxes[2:] **= 2
        return boxes

    def coded(self, boxes: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Return the numbers that predict boxes (4, G): the inverse of `in_image`."""
        boxes = boxes.copy()
        if self.inside:
            boxes[0] = boxes[0] * self.side - cell % self.side
            boxes[1] = boxes[1] * self.side - cell // self.side
        if self.roots:
            boxes[2:] = np.sqrt(boxes[2:])
        return boxes
