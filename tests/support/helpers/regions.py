"""Regions of interest, for tests of layers that pool them."""

from __future__ import annotations

import numpy as np

#: (5, 5): sample, x1, y1, x2, y2; inside, across the edges, one point, outside, and turned around
REGIONS = np.array([[0, 0, 0, 7, 7], [1, 2, 1, 9, 12], [1, 5, 5, 5, 5], [0, 20, 20, 30, 30], [1, 3, 0, 14, 4.0]])


def regions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """The first regions, as values of a Case's bottom."""
    return REGIONS[: shape[0]]


def clip(value: int, size: int) -> int:
    """`value`, at least 0 and at most `size`."""
    return min(max(value, 0), size)
