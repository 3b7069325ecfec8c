"""Average precision (AP) of detections, from the rows of DetectionEvaluate; mAP is its mean over classes."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable

import numpy as np

from minicaffe.errors import SolverError, nearest

log = logging.getLogger("minicaffe")

_EPS = np.float32(1e-6)  # smaller steps of recall do not count


def average_precision(scores: np.ndarray, right: np.ndarray, positives: int, version: str) -> float:
    """Return the average precision of the detections of one class, computed in float32 as in the original.

    scores: (n,) confidences; equal ones count in the order given.  right: (n,) whether each is a true positive; the
    others are false positives.  positives: number of annotated objects.  version: a key of `VERSIONS`.
    It is 0 without detections or objects.
    Source: ComputeAP in SSD's bbox_util.cpp.
    """
    if not positives or not len(scores):
        return 0.0
    right = np.asarray(right, bool)[np.argsort(-np.asarray(scores, np.float32), kind="stable")]
    found = np.cumsum(right)
    precision = found.astype(np.float32) / np.arange(1, len(found) + 1, dtype=np.float32)
    recall = found.astype(np.float32) / np.float32(positives)
    return float(np.cumsum(VERSIONS[version](precision, recall), dtype=np.float32)[-1])


def _eleven_points(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Return the summands of VOC 2007: 1/11 of the best precision from each recall of 1, 0.9, ... 0 on."""
    recall = recall.astype(np.float64)  # 0.7 in float32 is below 0.7
    best = [precision[recall >= i / 10].max(initial=0) for i in range(10, -1, -1)]
    return np.array(best, np.float32) / np.float32(11)


def _max_integral(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Return the summands of VOC 2010: steps of recall times the best precision from there on, the last step first."""
    best, steps = np.maximum.accumulate(precision[::-1]), np.diff(recall, prepend=np.float32(0))[::-1]
    return best * np.where(steps > _EPS, steps, 0)


def _integral(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Return steps of recall times the precision there."""
    steps = np.diff(recall, prepend=np.float32(0))
    return precision * np.where(steps > _EPS, steps, 0)


#: {`ap_version`: function of precision and recall, by descending confidence, whose result sums up to AP}
VERSIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "11point": _eleven_points,
    "MaxIntegral": _max_integral,
    "Integral": _integral,
}


class Detections:
    """The detections of a test, collected from the rows of DetectionEvaluate.

    name: of the blob, for messages.  version: `ap_version`, one of "11point", "MaxIntegral" and "Integral".
    positives: {label: number of annotated objects}.
    SolverError for another version.
    """

    def __init__(self, name: str, version: str) -> None:
        if version not in VERSIONS:
            raise SolverError(
                f"ap_version must be one of {', '.join(VERSIONS)}, got '{version}'{nearest(version, VERSIONS)}"
            )
        self._name, self._version = name, version
        self.positives: defaultdict[int, int] = defaultdict(int)
        self._batches: list[np.ndarray] = []

    def add(self, rows: np.ndarray) -> None:
        """Add the rows (R, 5) of a batch: (-1, class, objects, ...) or (image, class, confidence, right, wrong)."""
        counts = rows[:, 0] == -1
        for label, count in rows[counts][:, 1:3].astype(int).tolist():
            self.positives[label] += count
        self._batches.append(rows[~counts & (rows[:, 3:] != 0).any(1)][:, 1:4])  # a copy of class, confidence, right

    def per_class(self) -> dict[int, float]:
        """Return the average precision of each class; 0, with a warning, for one without detections."""
        labels, scores, right = np.concatenate(self._batches or [np.zeros((0, 3))]).T
        results = {}
        for label, positives in sorted(self.positives.items()):
            own = labels == label
            if not own.any():
                log.warning("%s: there is no detection of class %d, its AP counts as 0", self._name, label)
            results[label] = average_precision(scores[own], right[own], positives, self._version)
        return results


def mean(per_class: dict[int, float]) -> float:
    """Return the mean over all classes, in float32; 0 without any class."""
    values = np.array(list(per_class.values()), np.float32)
    return float(np.cumsum(values)[-1] / np.float32(len(values))) if len(values) else 0.0
