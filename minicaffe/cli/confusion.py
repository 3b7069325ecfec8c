"""The confusion matrix of a test, counts of predicted classes for each true class, and the scores of each class."""

from __future__ import annotations

import numpy as np

from minicaffe.cli.command import print_line
from minicaffe.cli.per_class import TOP, ClassScores
from minicaffe.cli.predictions import Batch, Predictions
from minicaffe.files import write_atomically
from minicaffe.layers.shared.loss import in_top
from minicaffe.text import csv_text

ENDINGS = (".png", ".svg", ".pdf", ".csv")  #: of the file of a matrix


class Confusion:
    """Confusion counts over batches of a net; its first Accuracy or SoftmaxWithLoss layer defines scores and labels.

    labels: file of class names, one per line; None (default): "class 0", "class 1", ...
    `counts[true class, predicted class]`; ignored labels are not counted.
    `unranked[true class]`: number of positions whose scores are all nan; they are in no cell and counted as wrong.
    `in_top[true class]`: number of positions with fewer than 5 other scores at or above that of the true class.
    UsageError as for `Predictions`.
    """

    def __init__(self, net, labels: str | None = None, flag: str = "--confusion") -> None:
        self._predictions = Predictions(net, labels, flag)
        self.names = self._predictions.names
        classes = len(self.names)
        self.counts = np.zeros((classes, classes), np.int64)
        self.unranked, self.in_top = np.zeros((2, classes), np.int64)

    def add_batch(self) -> None:
        """Add the current batch of the net."""
        batch = self._predictions.read()
        batch = Batch(*(values[batch.counted] for values in batch))
        ranked = batch.ranked
        np.add.at(self.unranked, batch.labels[~ranked], 1)
        np.add.at(self.counts, (batch.labels[ranked], batch.predicted[ranked]), 1)
        np.add.at(self.in_top, batch.labels[in_top(batch.scores, batch.labels, TOP)], 1)

    @property
    def scores(self) -> ClassScores:
        """Precision, recall, F1 and top-5 of each class so far."""
        return ClassScores(self.names, self.counts, self.unranked, self.in_top)

    def show(self, where: str) -> None:
        """Write the matrix to a file, as a table (.csv) or a picture; "-": print it, and the scores of each class."""
        if where == "-":
            print_line(f"{self.table()}\n\n{self.scores.table()}")
        elif where.endswith(".csv"):
            rows = [[name, *row] for name, row in zip(self.names, self.counts)]
            write_atomically(where, csv_text([["true\\predicted", *self.names], *rows]))
        else:
            from minicaffe.pictures.plot import plot_confusion

            plot_confusion(self.counts, self.names, where, self.unranked)

    def table(self) -> str:
        """Return the matrix as text: rows of true classes, columns of predicted ones, and the recall of each row."""
        width = max(6, len(str(self.counts.max(initial=0))) + 1, *(len(str(i)) + 1 for i in range(len(self.names))))
        left = max(14, *(len(name) for name in self.names)) + 4
        columns = "".join(f"{i:>{width}}" for i in range(len(self.names)))
        lines = [f"{'true / predicted':<{left}}{columns}   right"]
        for i, (name, row, recall) in enumerate(zip(self.names, self.counts, self.scores.recall)):
            share = "        " if np.isnan(recall) else f"{recall:8.1%}"
            lines.append(f"{i:>3} {name}".ljust(left) + "".join(f"{n:>{width}}" for n in row) + share)
        unranked = self.unranked.sum()
        right, total = np.trace(self.counts), self.counts.sum() + unranked
        note = f", {unranked} have only nan as scores" if unranked else ""
        lines.append(f"{right} of {total} right ({right / max(total, 1):.2%}){note}")
        return "\n".join(lines)
