"""Hard negative mining: of many candidates, those with the largest losses.

Source: Liu et al., SSD, 2016, section 2.2; without overlapping candidates, Shrivastava et al., OHEM, 2016, section 4.
"""

from __future__ import annotations

import numpy as np

from minicaffe.layers.shared.boxes import suppress

_LEAST_AREA = 1e-5  # smaller boxes are dropped by `hardest_apart`


def hardest(losses: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the `count` largest losses, the largest first, of equal ones the first; nan is largest."""
    losses = np.where(np.isnan(losses), np.inf, losses)
    order = np.arange(len(losses))
    if 0 < count < len(losses):
        cut = len(losses) - count
        order = np.flatnonzero(losses >= np.partition(losses, cut)[cut])  # and all that are equal to the last one
    return order[np.argsort(-losses[order], kind="stable")][:count]


def hardest_apart(losses: np.ndarray, boxes: np.ndarray, count: int, threshold: float, most: int | None) -> np.ndarray:
    """As `hardest`, without those whose box overlaps the box of a larger loss by more than the threshold.

    boxes: (n, 4).  most: how many of the largest losses take part; None: all.
    """
    order = hardest(losses, len(losses) if most is None else most)
    area = np.maximum(boxes[order, 2:] - boxes[order, :2], 0).prod(1)
    order = order[area.astype(np.float64) >= _LEAST_AREA]
    size = 4 * count  # of the part of `order` that is looked through: most of it is not needed
    while True:
        kept = suppress(boxes[order[:size]], threshold)
        if len(kept) >= count or size >= len(order):
            return order[kept[:count]]
        size *= 4
