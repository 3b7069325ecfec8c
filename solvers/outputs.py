"""The result of a test: the outputs of a net over many batches as means, or those of detections as mAP."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from minicaffe.errors import SolverError, listed, nearest
from minicaffe.solvers.average_precision import Detections, mean

log = logging.getLogger("minicaffe")

EVAL_TYPES = ("classification", "detection")

Scores = dict[str, list[float]]  #: {output blob name: its values}


class Result(Protocol):
    """What becomes of one output over the batches of a test."""

    def add(self, values: np.ndarray) -> None:
        """Add the values of a batch."""

    def result(self) -> tuple[list[float], list[str]]:
        """Return the result of all batches, and lines of text about it, for the log."""


class Means:
    """The mean of each value of an output over all batches, summed in float64.

    An output with different numbers of values has no mean; it is reported as a warning.
    name: of the output, for the warning.
    """

    def __init__(self, name: str) -> None:
        self._name, self._batches = name, 0
        self._sum: np.ndarray | None = np.zeros(0)  # None: there is no mean

    def add(self, values: np.ndarray) -> None:
        """Add the values of a batch, in any shape."""
        added = values.ravel().astype(np.float64)
        if self._batches and self._sum is not None and len(added) != len(self._sum):
            log.warning(
                "output '%s' has no mean: it has %d values in one batch and %d in another (rows of DetectionEvaluate "
                'need eval_type: "detection")',
                self._name, len(self._sum), len(added),
            )  # fmt: skip
            self._sum = None
        if self._sum is not None:
            self._sum = self._sum + added if self._batches else added
        self._batches += 1

    def result(self) -> tuple[list[float], list[str]]:
        """Return the means; [] if there are none."""
        return [] if self._sum is None else (self._sum / max(self._batches, 1)).tolist(), []


class MeanAveragePrecision:
    """The mean average precision (mAP) over all batches of the rows of DetectionEvaluate.

    name, version: as of `Detections`.  show_classes: whether there is a line for each class.
    classes: {label: average precision}, set by `result`.  mean: their mean.
    """

    def __init__(self, name: str, version: str, show_classes: bool = False) -> None:
        self.detections, self._show_classes = Detections(name, version), show_classes
        self.classes: dict[int, float] = {}

    def add(self, values: np.ndarray) -> None:
        """Add the rows (1, 1, R, 5) of a batch."""
        self.detections.add(values[0, 0])

    def result(self) -> tuple[list[float], list[str]]:
        """Return the mAP, and lines "class1: 0.5" if they are wanted."""
        self.classes = self.detections.per_class()
        lines = [f"class{label}: {value:.6g}" for label, value in self.classes.items()] if self._show_classes else []
        return [self.mean], lines

    @property
    def mean(self) -> float:
        """The mAP, as of the last `result`."""
        return mean(self.classes)


class Outputs:
    """The outputs of a net over the batches of a test.

    results: {name: Result} of outputs that are not averaged; default: none.
    """

    def __init__(self, net: Any, results: Mapping[str, Result] | None = None) -> None:
        self._net = net
        self.special = results or {}
        self._results = {name: self.special.get(name) or Means(name) for name in net.outputs}
        self.notes: dict[str, list[str]] = {}  #: {name: lines of text about its score}, set by `scores`

    def add_batch(self) -> None:
        """Add the current batch of the net."""
        for name, result in self._results.items():
            result.add(self._net.blobs[name].read_data())

    def scores(self) -> Scores:
        """Return {output blob name: its values}, in the order of the outputs."""
        results = {name: result.result() for name, result in self._results.items()}
        self.notes = {name: notes for name, (_, notes) in results.items()}
        return {name: values for name, (values, _) in results.items()}


def of_solver(param: Any, net: Any) -> Outputs:
    """Return the Outputs of a test net as a SolverParameter requests them.

    With eval_type "detection" outputs of the shape (1, 1, R, 5) become their mAP; all others are averaged.
    SolverError for another eval_type or ap_version, and for "detection" without such an output.
    """
    if param.eval_type not in EVAL_TYPES:
        known = " or ".join(f'"{each}"' for each in EVAL_TYPES)
        raise SolverError(f'eval_type must be {known}, got "{param.eval_type}"{nearest(param.eval_type, EVAL_TYPES)}')
    if param.eval_type != "detection":
        return Outputs(net)
    shapes = {name: net.blobs[name].shape for name in net.outputs}
    rows = [name for name, shape in shapes.items() if len(shape) == 4 and shape[:2] == (1, 1) and shape[3] == 5]
    if not rows:
        given = listed(f"'{name}' {shape}" for name, shape in shapes.items()) or "(none)"
        raise SolverError(
            'eval_type "detection" needs a test net with an output of DetectionEvaluate, (1, 1, rows, 5); '
            f"its outputs are {given}"
        )
    shown = param.show_per_class_result
    return Outputs(net, {name: MeanAveragePrecision(name, param.ap_version, shown) for name in rows})
