"""Maps of boxes with labels, as of MS-CNN's ImageGtData, and their boxes by plain arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

CLASSES, FIELD, RATE = 3, (12, 16), 8  # FIELD: width, height


def map_scene(seed: int = 0, size: tuple[int, int] = (4, 5), count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """A map (count, CLASSES + 4, H, W) and its labels (count, 6, H, W): a third of the places have an object."""
    rng = np.random.default_rng(seed)
    shape = count, *size
    labels = np.zeros((count, 6, *size))
    labels[:, 0] = rng.integers(1, CLASSES, shape) * (rng.uniform(size=shape) < 0.35)
    rows, columns = np.indices(size)
    labels[:, 1] = (columns + 0.5) * RATE + rng.uniform(-4, 4, shape)
    labels[:, 2] = (rows + 0.5) * RATE + rng.uniform(-4, 4, shape)
    labels[:, 3:5] = rng.uniform(1, 30, (count, 2, *size))
    labels[:, 5] = rng.uniform(0, 1, shape)
    return rng.standard_normal((count, CLASSES + 4, *size)), labels


def placed(
    code: Sequence[float], row: int, column: int, whr: float, xyr: float, field: tuple[int, int] = FIELD
) -> list[float]:
    """The box of a code: centre x and y, width, height."""
    centre = [
        (place + 0.5) * RATE + side * min(max(value, -1 / xyr), 1 / xyr)
        for place, side, value in zip((column, row), field, code)
    ]
    return centre + [side * min(max(math.exp(value), 1 / whr), whr) for side, value in zip(field, code[2:])]


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """The intersection over union of two boxes given as centre and size."""
    sides = [
        min(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2) - max(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2) for k in (0, 1)
    ]
    shared = max(sides[0], 0) * max(sides[1], 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def code_differences(
    code: Sequence[float],
    box: Sequence[float],
    place: tuple[int, int],
    limits: tuple[float, float] | None,
    mean: Sequence[float] = (0,) * 4,
    std: Sequence[float] = (1,) * 4,
    field: tuple[int, int] = FIELD,
) -> Iterator[float]:
    """Yield the differences of a code from that of a box (centre, size) at a place (column, row); limits: whr, xyr."""
    for k in range(4):
        side, axis = field[k % 2], k % 2
        target = (box[k] - (place[axis] + 0.5) * RATE) / side if k < 2 else math.log(max(box[k], 2) / side)
        bounded = code[k]
        if limits is not None:
            pair, limit = (slice(0, 2), 1 / limits[1]) if k < 2 else (slice(2, 4), math.log(limits[0]))
            middle, width = float(np.mean(mean[pair])), math.sqrt(float(np.prod(std[pair])))
            bounded = min(max(code[k], (-limit - middle) / width), (limit - middle) / width)
        yield bounded - (target - mean[k]) / std[k]
