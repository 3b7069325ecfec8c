"""Boxes of YOLO's maps: a code for each anchor at each place.

A box is its centre and size (x, y, width, height), in fractions of the picture; arrays of boxes have it on axis 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.layer import Layer, Shape


def logistic(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)), which cannot overflow."""
    half = x.dtype.type(0.5)
    return half * np.tanh(half * x) + half


def decode(places: np.ndarray, growth: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the boxes (4, N, B, H, W) of a map of B anchors.

    places: (N, B, 2, H, W), x and y in the place, from 0 to 1; growth: (N, B, 2, H, W), the logarithm of width and
    height divided by those of the anchor.  sizes: (B, 2), width and height of each anchor, in fractions of the picture.
    """
    height, width = places.shape[3:]
    boxes = np.empty((4, *places.shape[:2], height, width), places.dtype)
    boxes[0] = (places[:, :, 0] + np.arange(width)) / width
    boxes[1] = (places[:, :, 1] + np.arange(height)[:, None]) / height
    with np.errstate(over="ignore"):
        boxes[2:] = np.exp(np.moveaxis(growth, 2, 0)) * sizes.T[:, None, :, None, None]
    return boxes


def corners(boxes: np.ndarray) -> np.ndarray:
    """Return (xmin, ymin, xmax, ymax) of boxes, on axis 0."""
    half = boxes[2:] / 2
    return np.concatenate([boxes[:2] - half, boxes[:2] + half])


def read_anchors(layer: Layer, biases: Sequence[float], numbers: Sequence[int]) -> np.ndarray:
    """Return width and height of the anchors `numbers`, (n, 2), from `biases`; LayerError for one that is not given."""
    sizes = np.array(biases, np.float64)
    if sizes.size % 2 or not sizes.size or not (sizes > 0).all():
        raise layer.error(f"biases must be pairs of a width and a height above 0, got {list(biases)}")
    sizes = sizes.reshape(-1, 2)
    if wrong := [number for number in numbers if number >= len(sizes)]:
        raise layer.error(f"biases must give anchor {wrong[0]}, got {len(sizes)} anchors, from 0 on")
    return sizes[list(numbers)]


def check_map(layer: Layer, index: int, shape: Shape, anchors: int, numbers: int) -> None:
    """Raise LayerError unless bottom `index` is a map of so many anchors with so many numbers each."""
    if len(shape) != 4 or shape[1] != anchors * numbers:
        raise layer.error(
            f"bottom {index} must be (N, {anchors * numbers}, H, W), {numbers} numbers for each of {anchors} anchors, "
            f"got {shape}"
        )
