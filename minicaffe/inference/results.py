"""Predictions as columns of a table: values of blobs, the best classes of one, or detections; scores against labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from minicaffe.data.label_map import read_label_map
from minicaffe.errors import DataError
from minicaffe.layers.shared.loss import in_top
from minicaffe.text import class_names, printable

_TAKEN = ("filename", "label", "file")  # names of columns, and of an argument of numpy.savez

#: columns of a detection; the corners are fractions of the width and the height of the net's input
DETECTION = ("class", "confidence", "xmin", "ymin", "xmax", "ymax")


class Rows(NamedTuple):
    """Predictions for some inputs: their names, their labels, and blobs (N, ...) by name."""

    names: Sequence[str]
    labels: Sequence[int | None]
    blobs: Mapping[str, np.ndarray]


class Best(NamedTuple):
    """The K best classes of N rows, best first."""

    classes: np.ndarray  #: (N, K) int64
    scores: np.ndarray  #: (N, K)

    @classmethod
    def of(cls, values: np.ndarray, count: int) -> Best:
        """Return the `count` largest values of each row of (N, ...), the first of equal ones first."""
        flat = values.reshape(len(values), -1)
        order = np.argsort(-flat, axis=1, kind="stable")[:, :count]
        return cls(order, np.take_along_axis(flat, order, axis=1))


class Layout(NamedTuple):
    """What is written of each input, or of each detection.

    shapes: {blob: shape of a row}; the first blob is that of the scores, or of a detector the column of the classes.
    labelled: whether there is a column with the labels of inputs.
    classes: the names of the classes; () if they are not known.
    top: the number of best classes to write instead of the scores; 0 for the scores.
    detected_classes: the number of classes of a detector: a row is a detection, with the columns `DETECTION`; else 0.
    """

    shapes: dict[str, tuple[int, ...]]
    labelled: bool = False
    classes: Sequence[str] = ()
    top: int = 0
    detected_classes: int = 0

    @property
    def maps(self) -> bool:
        """Whether the scores are maps (C, H, W), one for each class."""
        return not self.detected_classes and is_maps(self.shapes[self.scores])

    @property
    def scores(self) -> str:
        """The blob of the scores."""
        return next(iter(self.shapes))

    def with_classes(self, path: str) -> Layout:
        """Return this layout with names of the classes: the lines of a file, or those of a label map (.prototxt).

        DataError unless a text file has one for each value of the scores, or each map, or each class of a detector,
        background included, and for a label that is none of these.  A class that a label map leaves out keeps its
        number.
        """
        shape = self.shapes[self.scores]
        count = self.detected_classes or (shape[0] if self.maps else math.prod(shape))
        if not path.endswith(".prototxt"):
            return self._replace(classes=class_names(path, count))
        names = read_label_map(path).display_names
        if beyond := [label for label in names if not 0 <= label < count]:
            raise DataError(f"{path} has the label {beyond[0]}, but the net has {count} classes, 0 to {count - 1}")
        return self._replace(classes=[names.get(label, str(label)) for label in range(count)])

    def name_of(self, index: int) -> str:
        """Return the name of a class, or its number if the names are not known."""
        return self.classes[index] if index < len(self.classes) else str(index)

    def table(self, rows: Rows) -> Rows:
        """Return the rows to write for a batch: its own, or of a detector those of the detections, in their order.

        DataError, which names the first input of the batch, for a blob whose rows have another shape than in `shapes`.
        """
        if self.detected_classes:
            return _detections(rows)
        for name, values in rows.blobs.items():
            if values.shape[1:] != self.shapes[name]:
                raise DataError(
                    f"{rows.names[0]}: blob '{name}' has the shape {values.shape[1:]} for each input, expected "
                    f"{self.shapes[name]}: rows of different shapes cannot be written"
                )
        return rows

    def arrays(self, rows: Rows) -> dict[str, np.ndarray]:
        """Return the columns of some rows as arrays of N rows; the label of an input without one is -1."""
        columns: dict[str, np.ndarray] = {"filename": np.array(rows.names, dtype=np.str_)}
        if self.labelled:
            columns["label"] = np.array([-1 if label is None else label for label in rows.labels], np.int64)
        for name, values in rows.blobs.items():
            if self.top and name == self.scores:
                best = Best.of(values, self.top)
                columns |= {"top_class": best.classes, "top_score": best.scores}
            else:
                columns[column_of(name)] = values
        return columns


def is_maps(shape: tuple[int, ...]) -> bool:
    """Whether a row of this shape has a map for each of several classes, (C, H, W)."""
    return len(shape) == 3 and shape[0] > 1 and shape[1] * shape[2] > 1


def _detections(rows: Rows) -> Rows:
    """Return a row for each detection in a DetectionOutput's blob, (1, 1, D, 7); those of class -1 are none."""
    (blob,) = rows.blobs.values()
    found = blob.reshape(-1, 7)
    found = found[found[:, 1] >= 0]
    images, classes = found[:, :2].astype(np.int64).T
    columns = {DETECTION[0]: classes, **dict(zip(DETECTION[1:], found[:, 2:].T))}
    return Rows([rows.names[i] for i in images], [rows.labels[i] for i in images], columns)


def column_of(blob: str) -> str:
    """Return the name of a blob's column: its own, unless another column has it."""
    return printable(f"{blob}_blob" if blob in _TAKEN else blob)


class Accuracy:
    """The part of labelled inputs whose label is among the best K scores, as Accuracy layers count; NaN is wrong.

    Labels that are no class, such as -1 in a test set without labels, are left out, and counted in `text`.
    """

    def __init__(self, k: int = 5) -> None:
        self.k, self.count, self.left_out = k, 0, 0
        self._correct = np.zeros(2, int)

    def add(self, rows: Rows, blob: str) -> None:
        """Count rows with labels by the scores in a blob."""
        values = rows.blobs[blob].reshape(len(rows.names), -1)
        given = np.array([label is not None for label in rows.labels], bool)
        labels = np.array([label or 0 for label in rows.labels], np.int64)
        counted = given & (labels >= 0) & (labels < values.shape[1])
        values, labels = values[counted], labels[counted]
        self._correct += [np.count_nonzero(in_top(values, labels, k)) for k in (1, self.k)]
        self.count += len(labels)
        self.left_out += int(np.count_nonzero(given & ~counted))

    def text(self) -> str:
        """Return the accuracies in words; "" without labels."""
        parts = []
        if self.count:
            first, best = (correct / self.count for correct in self._correct)
            parts.append(f"accuracy {first:.4f}, top-{self.k} {best:.4f}, of {self.count} labelled images")
        if self.left_out:
            parts.append("1 label is no class" if self.left_out == 1 else f"{self.left_out} labels are no class")
        return "; ".join(parts)
