"""Matches of boxes with true boxes, and the codes of true boxes relative to prior boxes.

A box is four corners (xmin, ymin, xmax, ymax).
Source: Liu et al., SSD, 2016, section 2.2.
"""

from __future__ import annotations

import numpy as np

from minicaffe.proto.caffe_pb2 import PriorBoxParameter

UNMATCHED, IGNORED = -1, -2  #: in place of the index of a true box
_LEAST = 1e-6  # boxes that overlap by no more than this are apart


def match(overlap: np.ndarray, threshold: float | None, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of P boxes the index of its true box, or UNMATCHED or IGNORED, and its best overlap with any.

    overlap: (G, P), of each of G >= 1 true boxes with each box.
    threshold: after the bipartite matching, each box without a match gets the true box that it overlaps most, if by at
        least this much; None: it does not.
    ignored: (P,), the boxes that take no part.
    """
    overlap = np.where((overlap > _LEAST) & ~ignored, overlap, 0)
    matches, best = np.where(ignored, IGNORED, UNMATCHED), overlap.max(0)
    near = np.flatnonzero(best)
    of_near = overlap[:, near].T.copy()
    matches[near] = bipartite(of_near)
    if threshold is not None:
        free = (matches[near] == UNMATCHED) & (best[near] >= threshold)
        matches[near[free]] = of_near[free].argmax(1)
    return matches, best


def bipartite(overlap: np.ndarray) -> np.ndarray:
    """Return for each of P boxes the index of its true box, or UNMATCHED; no true box is given twice.

    overlap: (P, G).  The pair of the largest overlap is matched first, of equal ones that of the first box, and of its
    pairs that with the first true box; and so on, until the true boxes are used up or overlap no box that is left.
    """
    left, matches = overlap.copy(), np.full(len(overlap), UNMATCHED)
    for _ in range(left.shape[1] if left.size else 0):
        box, true_box = np.unravel_index(left.argmax(), left.shape)
        if left[box, true_box] <= 0:
            break
        matches[box] = true_box
        left[box], left[:, true_box] = 0, 0
    return matches


def encode(boxes: np.ndarray, priors: np.ndarray, variances: np.ndarray | None, code_type: int) -> np.ndarray:
    """Return the codes (n, 4) of boxes (n, 4) relative to priors (n, 4): what `boxes.decode` decodes.

    variances: (n, 4), divisors of the codes; None: 1.  code_type: a `PriorBoxParameter.CodeType`.
    """
    size = priors[:, 2:] - priors[:, :2]
    if code_type == PriorBoxParameter.CORNER:
        codes = boxes - priors
    elif code_type == PriorBoxParameter.CORNER_SIZE:
        codes = (boxes - priors) / np.tile(size, 2)
    else:
        centre, prior_centre = ((each[:, :2] + each[:, 2:]) / 2 for each in (boxes, priors))
        growth = np.log((boxes[:, 2:] - boxes[:, :2]) / size)
        codes = np.concatenate([(centre - prior_centre) / size, growth], 1)
    return codes if variances is None else codes / variances


def crosses_boundary(boxes: np.ndarray) -> np.ndarray:
    """Return for each of P boxes (P, 4), in fractions of the picture, whether a corner is outside of the picture."""
    return np.any((boxes < 0) | (boxes > 1), axis=1)
