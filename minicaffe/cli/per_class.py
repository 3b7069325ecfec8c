"""Precision, recall, F1 and top-5 accuracy of each class of a test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from minicaffe.cli.command import print_line
from minicaffe.files import write_atomically
from minicaffe.text import csv_text

TOP = 5  #: a position counts for top-5 if fewer than so many other scores are at or above that of its class


class ClassScores:
    """Scores of C classes, each an array (C,) with nan where it is not defined.

    support: n, the number of positions whose true class it is.
    precision: of the positions predicted as the class, the share that is right; undefined for a class that is never
        predicted.
    recall: of the n positions, the share that is predicted as the class; undefined for n = 0, an absent class.
    f1: 2 right / (n + number predicted), the harmonic mean of precision and recall; 0 where nothing is right; undefined
        for a class that is neither present nor predicted.
    top5: of the n positions, the share with fewer than 5 other scores at or above that of the class, as in Accuracy
        with top_k 5; None where there are at most 5 classes.
    macro: the mean of each over the classes with n > 0, where a precision that is undefined counts as 0.

    A position whose scores are all nan has no predicted class: it counts in n alone, so it lowers recall, F1 and top-5.

    counts: (C, C), [true class, predicted class].  unranked: (C,), positions of each class with nan alone.
    in_top: (C,), positions of each class that count for top-5.
    """

    def __init__(self, names: Sequence[str], counts: np.ndarray, unranked: np.ndarray, in_top: np.ndarray) -> None:
        self.names = names
        right, predicted = np.diagonal(counts), counts.sum(0)
        self.support = counts.sum(1) + unranked
        self.precision, self.recall = _share(right, predicted), _share(right, self.support)
        self.f1 = _share(2 * right, self.support + predicted)
        self.top5 = _share(in_top, self.support) if len(names) > TOP else None

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The scores by their headings, without the support."""
        columns = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return columns if self.top5 is None else {**columns, "top-5": self.top5}

    @property
    def macro(self) -> list[float]:
        """The mean of each column over the classes that are present; nan if none is."""
        present = self.support > 0
        return [float(np.nan_to_num(column[present]).mean()) if present.any() else np.nan
                for column in self.columns.values()]  # fmt: skip

    def show(self, where: str) -> None:
        """Print the table ("-"), or write it to a .csv file."""
        if where == "-":
            print_line(self.table())
        else:
            write_atomically(where, csv_text(self.rows()))

    def rows(self) -> Iterator[list]:
        """Yield the rows of a CSV file: headings, classes, macro average; an undefined score is an empty cell."""
        yield ["class", *self.columns, "support"]
        for name, scores, support in self._lines():
            yield [name, *("" if np.isnan(score) else f"{score:.6g}" for score in scores), support]

    def table(self) -> str:
        """Return the table as text, an undefined score as "-"."""
        left = max(14, *(len(name) for name in self.names)) + 4
        lines = [" " * left + "".join(f"{heading:>11}" for heading in (*self.columns, "support"))]
        for i, (name, scores, support) in enumerate(self._lines()):
            cells = "".join(f"{'-' if np.isnan(score) else f'{score:.4f}':>11}" for score in scores)
            head = f"{i:>3} {name}" if i < len(self.names) else name
            lines.append(f"{head:<{left}}{cells}{support:>11}")
        absent = int(np.count_nonzero(self.support == 0))
        if absent:
            lines.append(f"{absent} of {len(self.names)} classes are not among the labels; they are in no average")
        return "\n".join(lines)

    def _lines(self) -> Iterator[tuple[str, list[float], int]]:
        """Yield name, scores and support of each class, then the averages."""
        for i, name in enumerate(self.names):
            yield name, [float(column[i]) for column in self.columns.values()], int(self.support[i])
        yield "macro average", self.macro, int(self.support.sum())


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, nan where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
