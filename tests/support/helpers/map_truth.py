"""Maps of boxes with labels, as of MS-CNN's ImageGtData, and their boxes by plain arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CLASSES, FIELD, RATE = 3, (12, 16), 8  # FIELD: width, height


def map_scene(seed: int = 0, size: tuple[int, int] = (4, 5)) -> tuple[np.ndarray, np.ndarray]:
    """A map (2, CLASSES + 4, H, W) and its labels (2, 6, H, W): a third of the places have an object."""
    rng = np.random.default_rng(seed)
    shape = 2, *size
    labels = np.zeros((2, 6, *size))
    labels[:, 0] = rng.integers(1, CLASSES, shape) * (rng.uniform(size=shape) < 0.35)
    rows, columns = np.indices(size)
    labels[:, 1] = (columns + 0.5) * RATE + rng.uniform(-4, 4, shape)
    labels[:, 2] = (rows + 0.5) * RATE + rng.uniform(-4, 4, shape)
    labels[:, 3:5] = rng.uniform(1, 30, (2, 2, *size))
    labels[:, 5] = rng.uniform(0, 1, shape)
    return rng.standard_normal((2, CLASSES + 4, *size)), labels


def placed(code: Sequence[float], row: int, column: int, whr: float, xyr: float) -> list[float]:
    """The box of a code: centre x and y, width, height."""
    centre = [
        (place + 0.5) * RATE + side * min(max(value, -1 / xyr), 1 / xyr)
        for place, side, value in zip((column, row), FIELD, code)
    ]
    return centre + [side * min(max(math.exp(value), 1 / whr), whr) for side, value in zip(FIELD, code[2:])]


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """The intersection over union of two boxes given as centre and size."""
    sides = [
        min(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2) - max(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2) for k in (0, 1)
    ]
    shared = max(sides[0], 0) * max(sides[1], 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)
