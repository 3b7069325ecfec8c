"""Random boxes in pixels, and their overlaps and codes by plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def random_boxes(rng: np.random.Generator, count: int, size: float = 60) -> np.ndarray:
    """Boxes (count, 4), (x1, y1, x2, y2), whose last pixel is x2, y2, with fractions of 1/4."""
    corner = rng.uniform(0, size, (count, 2))
    return np.round(4 * np.concatenate([corner, corner + rng.uniform(3, size / 2, (count, 2))], 1)) / 4


def near(rng: np.random.Generator, boxes: np.ndarray, count: int) -> np.ndarray:
    """Boxes (count, 4) a few pixels from some of `boxes`, in steps of 1/4."""
    return boxes[rng.integers(0, len(boxes), count)] + np.round(rng.uniform(-8, 8, (count, 4))) / 4


def with_images(rng: np.random.Generator, boxes: np.ndarray, images: int) -> np.ndarray:
    """Regions (n, 5), each of a random image."""
    return np.column_stack([rng.integers(0, images, len(boxes)), boxes])


def iou(a: Sequence[float], b: Sequence[float], over: str = "IOU") -> float:
    """The overlap of two boxes in pixels: of the union, of the smaller (IOMU) or of the first area (IOFU)."""
    width, height = (min(a[k + 2], b[k + 2]) - max(a[k], b[k]) + 1 for k in range(2))
    first, second = ((box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b))
    shared = max(width, 0) * max(height, 0)
    return shared / {"IOU": first + second - shared, "IOMU": min(first, second), "IOFU": first}[over]


def code(box: Sequence[float], region: Sequence[float]) -> list[float]:
    """The code of a box relative to a region."""
    (w, h), (region_w, region_h) = ((b[2] - b[0] + 1, b[3] - b[1] + 1) for b in (box, region))
    dx, dy = (box[k] + side / 2 - region[k] - own / 2 for k, side, own in ((0, w, region_w), (1, h, region_h)))
    return [dx / region_w, dy / region_h, math.log(w / region_w), math.log(h / region_h)]


def decoded(codes: Sequence[float], region: Sequence[float]) -> list[float]:
    """The box of a code: the inverse of `code`."""
    sides = [region[k + 2] - region[k] + 1 for k in range(2)]
    found = [math.exp(codes[k + 2]) * sides[k] for k in range(2)]
    start = [region[k] + sides[k] / 2 + codes[k] * sides[k] - found[k] / 2 for k in range(2)]
    return [*start, *(start[k] + found[k] - 1 for k in range(2))]
