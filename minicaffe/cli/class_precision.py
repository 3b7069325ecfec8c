"""The average precision of each class of a detector, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from minicaffe.cli.command import print_line
from minicaffe.files import write_atomically
from minicaffe.solvers.outputs import MeanAveragePrecision
from minicaffe.text import csv_text


class ClassPrecision:
    """Average precision and number of annotated objects of each class, and their mean (mAP) and sum.

    outputs: {output of DetectionEvaluate: its results}.  names: {label: name}; one that is missing is "class 1".
    """

    def __init__(self, outputs: Mapping[str, MeanAveragePrecision], names: Mapping[int, str]) -> None:
        self._outputs, self._names = outputs, names

    def show(self, where: str) -> None:
        """Print the table ("-"), or write it to a .csv file."""
        if where == "-":
            print_line(self.table())
        else:
            rows = [[output, name, f"{precision:.6g}", objects] for output, name, precision, objects in self._rows()]
            write_atomically(where, csv_text([["output", "class", "AP", "objects"], *rows]))

    def table(self) -> str:
        """Return the table as text."""
        rows = list(self._rows())
        left = max(14, *(len(name) for _, name, *_ in rows)) + 4
        lines = []
        for i, (output, name, precision, objects) in enumerate(rows):
            if not i or rows[i - 1][0] != output:
                lines.append(f"{output:<{left}}{'AP':>11}{'objects':>11}")
            lines.append(f"{name:<{left}}{precision:>11.4f}{objects:>11}")
        return "\n".join(lines)

    def _rows(self) -> Iterator[tuple[str, str, float, int]]:
        """Yield output, class, average precision and number of objects; after the classes of an output their mean."""
        for output, result in self._outputs.items():
            objects = result.detections.positives
            for label, precision in result.classes.items():
                yield output, self._names.get(label, f"class {label}"), precision, objects[label]
            yield output, "mean", result.mean, sum(objects.values())
