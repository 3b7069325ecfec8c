"""Sequences of labels: the greedy decoder of CTC, labels without their padding, and the distance of two sequences."""

from __future__ import annotations

import numpy as np


def best_path(scores: np.ndarray, blank: int, merge: bool = True) -> list[np.ndarray]:
    """Return, for scores (N, T, K), the best class of each step without blanks, of a run of one class the first.

    merge: False to keep all of a run.
    """
    best = scores.argmax(2)
    kept = best != blank
    if merge:
        kept[:, 1:] &= best[:, 1:] != best[:, :-1]
    return [row[mask] for row, mask in zip(best, kept)]


def without(labels: np.ndarray, blank: int) -> list[np.ndarray]:
    """Return the rows of labels (N, L) without blanks."""
    return [row[row != blank] for row in labels]


def edit_distance(first: np.ndarray, second: np.ndarray) -> int:
    """Return the least number of insertions, deletions and substitutions that make `second` of `first`."""
    columns = np.arange(len(second) + 1)
    row = columns
    for i, label in enumerate(first):
        changed = np.minimum(row[1:] + 1, row[:-1] + (second != label))  # without insertions
        row = np.minimum.accumulate(np.concatenate([[i + 1], changed]) - columns) + columns
    return int(row[-1])
