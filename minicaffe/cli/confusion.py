"""The confusion matrix of a test: counts of predicted classes for each true class."""

from __future__ import annotations

import os

import numpy as np

from minicaffe.errors import UsageError
from minicaffe.files import replacing
from minicaffe.text import read_names


class Confusion:
    """Confusion counts over batches of a net; its first Accuracy or SoftmaxWithLoss layer defines scores and labels.

    labels: file of class names, one per line; None (default): "class 0", "class 1", ...
    `counts[true class, predicted class]`; ignored labels are not counted.
    `unranked`: number of positions whose scores are all nan; they are in no cell and counted as wrong.
    UsageError when the net has no such layer, or when the number of names is not the number of classes.
    """

    def __init__(self, net, labels: str | None = None) -> None:
        index = next((i for i, layer in enumerate(net.layers) if layer.type in ("Accuracy", "SoftmaxWithLoss")), None)
        if index is None:
            raise UsageError("--confusion: the net has no Accuracy or SoftmaxWithLoss layer to name the scores")
        layer = net.layers[index]
        self._scores, self._labels = net.bottoms[index][:2]
        self._axis = self._scores.canonical_axis(layer.given_axis)
        self._ignored = layer.ignored
        classes = self._scores.shape[self._axis]
        self.names = _class_names(labels, classes)
        self.counts = np.zeros((classes, classes), np.int64)
        self.unranked = 0

    def add_batch(self) -> None:
        """Add the current batch of the net."""
        scores = self._scores.read_data()
        nan = np.isnan(scores)
        ranked = ~nan.all(self._axis).ravel()
        predicted = np.where(nan, -np.inf, scores).argmax(self._axis).ravel()
        true = self._labels.read_data().ravel().astype(int)
        counted = (true >= 0) & (true < len(self.counts))
        if self._ignored is not None:
            counted &= true != self._ignored
        self.unranked += int(np.count_nonzero(counted & ~ranked))
        counted &= ranked
        np.add.at(self.counts, (true[counted], predicted[counted]), 1)

    def show(self, where: str) -> None:
        """Print the matrix if `where` is "-", otherwise write it to that file, as a table (.csv) or a picture."""
        if where == "-":
            print(self.table())
        elif where.endswith(".csv"):
            with replacing(where) as temporary, open(temporary, "w") as file:
                file.write("true\\predicted," + ",".join(self.names) + "\n")
                file.writelines(f"{name},{','.join(map(str, row))}\n" for name, row in zip(self.names, self.counts))
        else:
            self.draw(where)

    def table(self) -> str:
        """Return the matrix as text: rows of true classes, columns of predicted ones, and the accuracy of each row."""
        width = max(6, len(str(self.counts.max(initial=0))) + 1, *(len(str(i)) + 1 for i in range(len(self.names))))
        left = max(14, *(len(name) for name in self.names)) + 4
        columns = "".join(f"{i:>{width}}" for i in range(len(self.names)))
        lines = [f"{'true / predicted':<{left}}{columns}   right"]
        for i, (name, row) in enumerate(zip(self.names, self.counts)):
            share = f"{row[i] / row.sum():8.1%}" if row.sum() else "        "
            lines.append(f"{i:>3} {name}".ljust(left) + "".join(f"{n:>{width}}" for n in row) + share)
        right, total = np.trace(self.counts), self.counts.sum() + self.unranked
        note = f", {self.unranked} have only nan as scores" if self.unranked else ""
        lines.append(f"{right} of {total} right ({right / max(total, 1):.2%}){note}")
        return "\n".join(lines)

    def draw(self, path: str) -> None:
        """Draw the matrix, normalized per row, into a .png, .svg or .pdf file; UsageError for another extension."""
        check_target(path)
        from minicaffe.pictures.plot import plot_confusion

        plot_confusion(self.counts, self.names, path)


def check_target(path: str) -> None:
    """Raise UsageError for a file with another extension than .png, .svg, .pdf and .csv."""
    if os.path.splitext(path)[1] not in (".png", ".svg", ".pdf", ".csv"):
        raise UsageError(f"--confusion: expected a .png, .svg, .pdf or .csv file, got '{path}'")


def _class_names(path: str | None, classes: int) -> list[str]:
    if not path:
        return [f"class {i}" for i in range(classes)]
    names = read_names(path, "labels file", UsageError, "replace")
    if len(names) != classes:
        raise UsageError(f"--labels: expected {classes} names, one for each class, got {len(names)} in '{path}'")
    return names
