"""Sampling of objects and background among regions, and regression targets by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minicaffe.core.layer import Layer


def check_fraction(layer: Layer, name: str, fraction: float) -> None:
    """Raise LayerError unless a fraction of the sampled regions, a key of param_str, is in [0, 1]."""
    if not 0 <= fraction <= 1:
        raise layer.error(f"'{name}' must be in [0, 1], got {fraction:g}")


@dataclass(frozen=True)
class Sampling:
    """How many regions of an image are taken, and which are objects and background."""

    count: int | None  #: regions in all; None: all that are one of both
    fg_fraction: float  #: of the regions: most that are objects
    fg_thresh: float  #: least overlap of an object
    bg_thresh_hi: float  #: the overlap of background is below this
    bg_thresh_lo: float  #: and at least this

    def draw(self, overlaps: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Return the indices of regions in random order, objects first, and the number of objects.

        overlaps: (R,), the largest overlap of each region with an object.
        """
        objects = np.flatnonzero(overlaps >= self.fg_thresh)
        background = np.flatnonzero((overlaps < self.bg_thresh_hi) & (overlaps >= self.bg_thresh_lo))
        if self.count is not None:
            most = min(int(np.round(self.fg_fraction * self.count)), len(objects))
            objects = rng.choice(objects, most, replace=False)
            background = rng.choice(background, min(self.count - most, len(background)), replace=False)
        else:
            objects, background = rng.permutation(objects), rng.permutation(background)
        return np.concatenate([objects, background]), len(objects)


def by_class(
    labels: np.ndarray, targets: np.ndarray, classes: int, agnostic: bool, weights: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the targets (R, 4 classes) and their inside weights: a region of an object has four, those of its class.

    labels: (R,), 0 for background.  targets: (R, 4).  weights: four.
    agnostic: all objects are class 1, so `classes` is 2.
    """
    columns = np.zeros((len(labels), classes, 4), np.float32)
    inside = np.zeros_like(columns)
    objects = np.flatnonzero(labels > 0)
    blocks = np.ones(len(objects), int) if agnostic else labels[objects].astype(int)
    columns[objects, blocks] = targets[objects]
    inside[objects, blocks] = weights
    return columns.reshape(len(labels), 4 * classes), inside.reshape(len(labels), 4 * classes)
