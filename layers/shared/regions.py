"""Regions of interest (R, 5), rows (sample, x1, y1, x2, y2): ROIPooling, PSROIPooling, ROIAlign.

Of volumes (N, C, L, H, W) they are (R, 3), rows (sample, first, last).
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Layer


def check_shapes(layer: Layer, x, rois) -> None:
    """Raise LayerError unless the shapes are those of pictures (N, C, H, W) and regions (R, 5)."""
    if len(x) != 4:
        raise layer.error(f"bottom 0 must be (N, C, H, W), got {x}")
    if len(rois) < 2 or np.prod(rois[1:]) != 5:
        raise layer.error(f"bottom 1 must be regions (R, 5), got {rois}")


def checked_regions(layer: Layer, bottom):
    """Return the regions (R, 5), or (R, 3) of volumes; raise LayerError if one is of a sample that does not exist."""
    regions = bottom[1].read_data().reshape(-1, 5 if bottom[0].num_axes == 4 else 3)
    for r, sample in enumerate(regions[:, 0]):
        if not 0 <= sample < bottom[0].shape[0]:
            raise layer.error(f"region {r} is of sample {sample:g}, but bottom 0 has {bottom[0].shape[0]} samples")
    return regions


def enlarge(regions: np.ndarray, ratio: float) -> np.ndarray:
    """Return regions (R, 5) whose corners are moved outwards by `ratio` of their width x2 - x1 + 1, or height."""
    if not ratio:
        return regions
    low, high = regions[:, 1:3], regions[:, 3:]
    pad = (high - low + 1) * regions.dtype.type(ratio)
    return np.concatenate([regions[:, :1], low - pad, high + pad], 1)


def bins(rows, columns):
    """Return all pairs ((i, row), (j, column)) of bins."""
    return ((row, column) for row in enumerate(rows) for column in enumerate(columns))


def round_half_away(x: np.floating) -> np.floating:
    """Round as C does: halves away from zero."""
    return np.trunc(x + np.copysign(x.dtype.type(0.5), x))
