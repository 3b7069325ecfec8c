"""Anchors of region proposal networks: boxes in pixels at each place of a map, and what a network proposes from them.

Source: Ren et al., Faster R-CNN, 2015, section 3; py-faster-rcnn's generate_anchors.py and proposal_layer.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.layers.shared.boxes import suppress
from minicaffe.layers.shared.pixel_boxes import decode_pixels, edges

RATIOS = (0.5, 1.0, 2.0)  #: height / width of the anchors of Faster R-CNN
SCALES = (8.0, 16.0, 32.0)  #: their sides, in base sizes


def make_anchors(
    base_size: int = 16,
    ratios: Sequence[float] = RATIOS,
    scales: Sequence[float] = SCALES,
    rounded: Callable[[np.ndarray], np.ndarray] = np.round,
) -> np.ndarray:
    """Return the anchors (A, 4) of the first place, the scales of the first ratio first.

    base_size: side of the square, in pixels, whose area the anchors of scale 1 have.
    ratios: height / width.  scales: factors of both sides.
    rounded: applied to the sides at scale 1 (default: to the nearest, halves to even).
    """
    ratio, scale = np.array(ratios, np.float64), np.array(scales, np.float64)
    width = rounded(np.sqrt(base_size * base_size / ratio))
    height = rounded(width * ratio)
    half = (np.stack([width, height], 1)[:, None] * scale[:, None] - 1).reshape(-1, 2) / 2
    centre = (base_size - 1) / 2
    return np.concatenate([centre - half, centre + half], 1)


def anchors_of_map(anchors: np.ndarray, height: int, width: int, stride: int) -> np.ndarray:
    """Return the anchors (H W A, 4) of all places of a map, by row, column and anchor.

    anchors: (A, 4), of the first place.  stride: pixels between two places.
    """
    y, x = np.meshgrid(np.arange(height) * stride, np.arange(width) * stride, indexing="ij")
    return (np.stack([x, y, x, y], -1)[:, :, None] + anchors).reshape(-1, 4)


def by_anchor(maps: np.ndarray, count: int) -> np.ndarray:
    """Return the values (H W A, K) of a map (A K, H, W), in the order of `anchors_of_map`; count: A."""
    channels, height, width = maps.shape
    return maps.transpose(1, 2, 0).reshape(height * width * count, channels // count)


def as_map(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the map (A K, H, W) of values (H W A, K); the inverse of `by_anchor`."""
    return values.reshape(height, width, -1).transpose(2, 0, 1)


def check_maps(layer: Layer, scores: Sequence[int], codes: Sequence[int], count: int, images: int) -> None:
    """Raise LayerError unless bottoms 0 and 1 are (images, 2 A, H, W) and (images, 4 A, H, W); count: A."""
    for i, shape, channels in ((0, scores, 2 * count), (1, codes, 4 * count)):
        if tuple(shape[:2]) != (images, channels) or len(shape) != 4 or shape[2:] != scores[2:]:
            raise layer.error(
                f"bottom {i} must be ({images}, {channels}, H, W), of {count} anchors at each place, got {tuple(shape)}"
            )


def decoded_map(codes: np.ndarray, anchors: np.ndarray, stride: int, height: float, width: float) -> np.ndarray:
    """Return the boxes (H W A, 4) of a map of codes (4 A, H, W), clipped to an image of height and width, in pixels.

    anchors: (A, 4), of the first place.  stride: pixels between two places.
    """
    _, rows, columns = codes.shape
    places = anchors_of_map(anchors, rows, columns, stride).astype(codes.dtype)
    return clipped(decode_pixels(by_anchor(codes, len(anchors)), places), height, width)


def clipped(boxes: np.ndarray, height: float, width: float) -> np.ndarray:
    """Return boxes (..., 4) with all corners inside an image, in pixels."""
    most = np.array([width - 1, height - 1, width - 1, height - 1], boxes.dtype)
    return np.maximum(np.minimum(boxes, most), 0)


def large_enough(boxes: np.ndarray, least_width: float, least_height: float) -> np.ndarray:
    """Return for each box (n, 4), in pixels, whether its sides are at least so long."""
    width, height = (boxes[:, 2:] - boxes[:, :2] + 1).T
    return (width >= least_width) & (height >= least_height)


class Limits(NamedTuple):
    """How many boxes are proposed."""

    before: int  #: best boxes that are compared; 0: all
    after: int  #: most boxes that are kept; 0: all
    overlap: float  #: above it, the worse of two boxes is dropped


def best(boxes: np.ndarray, scores: np.ndarray, limits: Limits) -> np.ndarray:
    """Return the indices of the boxes (n, 4), in pixels, that non-maximum suppression keeps, the best first.

    Of equal scores (n,) the first comes first.  Overlaps are computed in float64.
    """
    order = np.argsort(-scores, kind="stable")[: limits.before or None]
    kept = suppress(edges(boxes[order].astype(np.float64)), limits.overlap)
    return order[kept[: limits.after or None]]
