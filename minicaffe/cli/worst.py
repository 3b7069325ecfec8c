"""The worst pictures of a test: those with the least probability of their true class."""

from __future__ import annotations

import heapq
import math
from typing import NamedTuple

import numpy as np

from minicaffe.cli.predictions import Predictions
from minicaffe.data.transformer import BatchTransformer
from minicaffe.errors import UsageError
from minicaffe.layers.shared.softmax import softmax
from minicaffe.pictures.sheet import BYTES, Range, Tile, draw_sheet


class Kept(NamedTuple):
    """A picture that is kept; the order of the heap is that of the first two fields, the best one first."""

    loss: float  #: -log p(true class), inf where that is 0 or nan
    order: int  #: minus its number in the test, so that of equal losses the first one is kept
    picture: np.ndarray  #: (C, H, W), as the net got it
    label: int
    predicted: int
    probabilities: tuple[float, float]  #: of the true and of the predicted class


class Worst:
    """The `count` pictures with the largest loss among all batches of a net; no more of them are in memory.

    Pictures are the first top of the data layer that also gives the labels, or of the first data layer with pictures.
    The probabilities are the softmax of the scores, or the scores themselves where a Softmax layer computes them.

    labels: file of class names, as for `Predictions`.
    UsageError when no layer gives pictures (N, C, H, W) with one label each, and as for `Predictions`.
    """

    def __init__(self, net, count: int, labels: str | None = None) -> None:
        self._predictions = Predictions(net, labels, "--worst")
        source = _picture_layer(net, self._predictions.label_producer)
        if source is None:
            raise UsageError("--worst: no layer of the net gives pictures (N, C, H, W) without reading another blob")
        transformer = getattr(net.layers[source], "transformer", None)
        self._transformer = transformer if isinstance(transformer, BatchTransformer) else None
        self._pictures, self._count = net.tops[source][0], count
        producer = self._predictions.producer
        self._are_probabilities = producer is not None and net.layers[producer].type == "Softmax"
        self._heap: list[Kept] = []
        self._seen = 0

    def add_batch(self) -> None:
        """Add the current batch of the net."""
        batch, pictures = self._predictions.read(), self._pictures.read_data()
        if len(batch.labels) != len(pictures):
            raise UsageError(f"--worst: expected one label for each picture, got {len(batch.labels)} labels for "
                             f"{len(pictures)} pictures")  # fmt: skip
        p = np.array(batch.scores, np.float64)[..., None]
        if not self._are_probabilities:
            softmax(p, p)
        p, best = p[..., 0], batch.predicted
        for i in np.flatnonzero(batch.counted).tolist():
            label, predicted = int(batch.labels[i]), int(best[i])
            own = float(p[i, label])
            loss = math.inf if math.isnan(own) or own <= 0 else -math.log(own)
            self._seen += 1
            if len(self._heap) < self._count or (loss, -self._seen) > self._heap[0][:2]:
                both = own, float(p[i, predicted])
                kept = Kept(loss, -self._seen, pictures[i].copy(), label, predicted, both)
                (heapq.heappush if len(self._heap) < self._count else heapq.heapreplace)(self._heap, kept)

    def figure(self, bgr: bool = True):
        """Return a sheet of the pictures, the worst first, with mean and scale undone; see `draw_sheet` for `bgr`.

        Black and white are 0 and 255 if all values are in that range, otherwise the least and the largest value.
        UsageError when no label was counted.
        """
        if not self._heap:
            raise UsageError("--worst: no position of the batches has a label that counts")
        kept = sorted(self._heap, reverse=True)
        pictures = [self._restored(each.picture) for each in kept]
        shown = Range.of(pictures)
        if shown.low > -1 and 1.5 < shown.high < 256:
            shown = BYTES
        tiles = [Tile(picture, self._caption(each)) for picture, each in zip(pictures, kept)]
        undone = "the data layer's mean and scale undone" if self._transformer else "values as the net gets them"
        notes = ["in bold the probability of the true class, below it that of the predicted class",
                 f"{undone}; {shown.note}"]  # fmt: skip
        return draw_sheet(tiles, f"The worst {len(tiles)} of {self._seen} pictures", notes, shown, bgr)

    def _restored(self, picture: np.ndarray) -> np.ndarray:
        return self._transformer.restore(picture) if self._transformer else picture

    def _caption(self, kept: Kept) -> list[str]:
        names, (own, best) = self._predictions.names, kept.probabilities
        return [f"{own:.2g}  {names[kept.label]}", f"{best:.2g}  {names[kept.predicted]}", f"loss {kept.loss:.3g}"]


def _picture_layer(net, label_layer: int | None) -> int | None:
    """Return the index of the layer whose first top is the pictures: that of the labels, or the first one."""
    found = [i for i, layer in enumerate(net.layers) if not net.bottoms[i] and net.tops[i]
             and len(net.tops[i][0].shape) == 4]  # fmt: skip
    return label_layer if label_layer in found else next(iter(found), None)
