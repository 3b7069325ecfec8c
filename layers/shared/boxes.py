"""Boxes of detectors: their overlaps, their codes relative to prior boxes, the best ones, non-maximum suppression.

A box is four corners (xmin, ymin, xmax, ymax).
"""

from __future__ import annotations

import numpy as np

from minicaffe.proto.caffe_pb2 import PriorBoxParameter

_BLOCK = 64  # candidates that are compared at once


def decode(codes: np.ndarray, priors: np.ndarray, variances: np.ndarray | None, code_type: int) -> np.ndarray:
    """Return the corners (P, 4) of boxes from their codes (P, 4) relative to priors (P, 4).

    variances: (P, 4), factors of the codes; None: 1.  code_type: a `PriorBoxParameter.CodeType`.
    Source: Liu et al., SSD, 2016, section 2.2.
    """
    if variances is not None:
        codes = codes * variances
    size = priors[:, 2:] - priors[:, :2]
    if code_type == PriorBoxParameter.CORNER:
        return priors + codes
    if code_type == PriorBoxParameter.CORNER_SIZE:
        return priors + codes * np.tile(size, 2)
    centre = codes[:, :2] * size + (priors[:, :2] + priors[:, 2:]) / 2
    half = np.exp(codes[:, 2:]) * size / 2
    return np.concatenate([centre - half, centre + half], 1)


def largest(values: np.ndarray, count: int | None = None) -> np.ndarray:
    """Return the indices of the `count` largest values, the largest first, of equal ones the first; nan is the largest.

    values: (n,).  count: None (default): all.
    """
    values = np.where(np.isnan(values), np.inf, values)
    order = np.arange(len(values))
    if count is not None and 0 < count < len(values):
        cut = len(values) - count
        order = np.flatnonzero(values >= np.partition(values, cut)[cut])  # and all that are equal to the last one
    return order[np.argsort(-values[order], kind="stable")][:count]


def suppress(boxes: np.ndarray, threshold: float, eta: float = 1.0, over: str = "union") -> list[int]:
    """Return the indices of the boxes that overlap no better one that is kept by more than the threshold.

    boxes: corners (n, 4), the best first; eta: factor of the threshold after each kept box, while it is above 0.5.
    over: as in `overlaps`, of kept boxes with others.
    The boxes are taken in blocks, so that numpy computes the overlaps of many at once.
    """
    corners = np.ascontiguousarray(boxes.T)
    left, worst, kept = np.arange(len(boxes)), np.zeros(len(boxes)), []  # worst: largest overlap with a kept box
    while len(left):
        block = corners.take(left[:_BLOCK], 1)
        shared, chosen = overlaps(block, block, over), []
        for i in range(block.shape[1]):
            if worst[i] <= threshold:
                chosen.append(i)
                np.maximum(worst[: len(shared)], shared[i], out=worst[: len(shared)])
                if eta < 1 and threshold > 0.5:
                    threshold *= eta
        kept += left[chosen].tolist()
        left, worst = left[_BLOCK:], worst[_BLOCK:]
        if chosen and len(left):
            worst = np.maximum(worst, overlaps(block.take(chosen, 1), corners.take(left, 1), over).max(0))
        left, worst = left[worst <= threshold], worst[worst <= threshold]
    return kept


def overlaps(these: np.ndarray, those: np.ndarray, over: str = "union") -> np.ndarray:
    """Return the intersections (n, m) of boxes whose corners are (4, n) with others (4, m), divided by an area.

    over: "union"; "smaller", the area of the smaller box; "first", that of the box of `these`.
    """
    these = these[:, :, None]
    shared, height = np.minimum(these[2:], those[2:, None]) - np.maximum(these[:2], those[:2, None])
    np.maximum(shared, 0, out=shared)
    shared *= np.maximum(height, 0, out=height)
    if over == "union":
        divisor = np.add(_area(these), _area(those), out=height)
        divisor -= shared
    else:
        divisor = np.minimum(_area(these), _area(those) if over == "smaller" else np.inf, out=height)
    np.fmax(divisor, np.finfo(divisor.dtype).smallest_subnormal, out=divisor)  # of empty boxes, for 0 / 0
    shared /= divisor
    return np.fmax(shared, 0, out=shared)  # nan where a corner is


def _area(corners: np.ndarray) -> np.ndarray:
    width, height = np.maximum(corners[2:] - corners[:2], 0)
    return width * height
