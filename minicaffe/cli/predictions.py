"""The scores and labels of a test net, batch by batch, as its Accuracy or SoftmaxWithLoss layer reads them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicaffe.errors import UsageError
from minicaffe.text import class_names, printable_line


class Batch(NamedTuple):
    """The P positions of a batch: one for each sample, or, of a segmentation, one for each pixel of each sample."""

    scores: np.ndarray  #: (P, C)
    labels: np.ndarray  #: (P,) int, the true classes
    counted: np.ndarray  #: (P,) bool: False where the label is ignored, or is none of 0 to C - 1

    @property
    def ranked(self) -> np.ndarray:
        """Return (P,) bool: False where all scores are nan, so that none is the best."""
        return ~np.isnan(self.scores).all(1)

    @property
    def predicted(self) -> np.ndarray:
        """Return (P,) int: the class of the best score; nan is below every number."""
        return np.where(np.isnan(self.scores), -np.inf, self.scores).argmax(1)


class Predictions:
    """Scores and labels of a net, as its first Accuracy or SoftmaxWithLoss layer reads them.

    names: the class names, one line each of the file `labels`; None (default): "class 0", "class 1", ...
    producer, label_producer: the layers that compute the scores and the labels, as indices into `net.layers`, Split
        layers left out; None for an input of the net.
    UsageError when the net has no such layer.  DataError as for `class_names`.

    flag: the command's flag that needs the scores, for the message.
    """

    def __init__(self, net, labels: str | None = None, flag: str = "--confusion") -> None:
        index = next((i for i, layer in enumerate(net.layers) if layer.type in ("Accuracy", "SoftmaxWithLoss")), None)
        if index is None:
            raise UsageError(f"{flag}: the net has no Accuracy or SoftmaxWithLoss layer to name the scores")
        layer = net.layers[index]
        self._scores, self._labels = net.bottoms[index][:2]
        self._axis = self._scores.canonical_axis(layer.given_axis)
        self._ignored = layer.ignored
        self.classes: int = self._scores.shape[self._axis]
        self.names = _names(labels, self.classes)
        self.producer, self.label_producer = (_producer(net, index, bottom) for bottom in (0, 1))

    def read(self) -> Batch:
        """Return scores and labels of the net's current batch."""
        scores = np.moveaxis(self._scores.read_data(), self._axis, -1).reshape(-1, self.classes)
        labels = self._labels.read_data().ravel().astype(int)
        counted = (labels >= 0) & (labels < self.classes)
        if self._ignored is not None:
            counted &= labels != self._ignored
        return Batch(scores, labels, counted)


def _names(path: str | None, classes: int) -> list[str]:
    """Return the names in a labels file, control characters escaped; without a file "class 0", "class 1", ..."""
    if not path:
        return [f"class {i}" for i in range(classes)]
    return [printable_line(name) for name in class_names(path, classes)]


def _producer(net, index: int, bottom: int) -> int | None:
    """Return the index of the layer that computes a bottom of layer `index`; of a copy, the layer of the original."""
    name = net.names_of_bottoms[index][bottom]
    for i in reversed(range(index)):
        if name in net.names_of_tops[i]:
            if net.layers[i].type != "Split":
                return i
            name = net.names_of_bottoms[i][0]
    return None
