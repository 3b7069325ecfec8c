"""Hard negative mining among boxes: those with the largest losses that do not overlap each other.

Source: Shrivastava, Gupta and Girshick, Training region-based object detectors with online hard example mining, 2016,
section 4.
"""

from __future__ import annotations

import numpy as np

from minicaffe.data.box_rows import areas
from minicaffe.layers.shared.boxes import largest, suppress

_LEAST_AREA = 1e-5  # smaller boxes are dropped by `hardest_apart`


def hardest_apart(losses: np.ndarray, boxes: np.ndarray, count: int, threshold: float, most: int | None) -> np.ndarray:
    """Return the indices of the `count` largest losses (n,) whose boxes overlap no box of a larger one that is kept.

    boxes: (n, 4).  threshold: the most that they may overlap.  most: how many of the largest losses take part; None:
    all.
    """
    order = largest(losses, most)
    order = order[areas(boxes[order]).astype(np.float64) >= _LEAST_AREA]
    size = 4 * count  # of the part of `order` that is looked through: most of it is not needed
    while True:
        kept = suppress(boxes[order[:size]], threshold)
        if len(kept) >= count or size >= len(order):
            return order[kept[:count]]
        size *= 4
