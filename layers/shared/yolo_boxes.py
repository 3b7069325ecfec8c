"""Boxes of YOLO's maps: a code for each anchor at each place.

A box is its centre and size (x, y, width, height), in fractions of the picture; arrays of boxes have it on axis 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.layer import Layer, Shape
from minicaffe.proto.caffe_pb2 import Yolov3Parameter


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
    if len(shape) != 4 or shape[1] != anchors * numbers or 0 in shape[2:]:
        raise layer.error(
            f"bottom {index} must be (N, {anchors * numbers}, H, W), {numbers} numbers for each of {anchors} anchors, "
            f"got {shape}"
        )


# -- overlaps, of the kinds of Yolov3Parameter.IOU_LOSS ----------------------------------------------------------------


class Overlap:
    """The overlap of boxes with others, arrays (4, ...) that fit together.

    kind: IOU or MSE, the intersection over the union; GIOU, minus the part of the hull of both that neither covers;
    DIOU, IOU minus the squared distance of the centres over the squared diagonal of the hull; CIOU, DIOU minus v v /
    (1 - IOU + v), v being the squared difference of the angles of the diagonals times 4 / pi^2.
    Source: Rezatofighi et al., Generalized intersection over union, 2019; Zheng et al., Distance-IoU loss, 2020.
    """

    def __init__(self, these: np.ndarray, those: np.ndarray, kind: int = Yolov3Parameter.IOU) -> None:
        self.kind, self.these, self.those = kind, these, those
        self.low, self.high = these[:2] - these[2:] / 2, these[:2] + these[2:] / 2
        self.other_low, self.other_high = those[:2] - those[2:] / 2, those[:2] + those[2:] / 2
        inner = np.minimum(self.high, self.other_high) - np.maximum(self.low, self.other_low)
        self.inner = np.where((inner > 0).all(0), inner, 0)
        self.hull = np.maximum(self.high, self.other_high) - np.minimum(self.low, self.other_low)
        self.shared = self.inner[0] * self.inner[1]
        self.union = these[2] * these[3] + those[2] * those[3] - self.shared
        self.iou = _ratio(self.shared, self.union)

    def value(self) -> np.ndarray:
        """Return the overlaps."""
        if self.kind == Yolov3Parameter.GIOU:
            area = self.hull[0] * self.hull[1]
            return self.iou - _ratio(area - self.union, area)
        if self.kind in (Yolov3Parameter.DIOU, Yolov3Parameter.CIOU):
            value = self.iou - _ratio(*self._distance())
            if self.kind == Yolov3Parameter.CIOU:
                v = 4 / np.pi**2 * self._angle() ** 2
                value = value - _ratio(v, 1 - self.iou + v) * v
            return value
        return self.iou

    def slopes(self) -> np.ndarray:
        """Return the steps (4, ...) that enlarge the overlaps, for x, y, width and height of `these`.

        They are the derivatives, but for twice that of IOU and GIOU with respect to width and height, and for CIOU's
        with respect to the angle, which is times the squared diagonal, as in the ports.
        """
        at_high = np.where(self.high < self.other_high, self.inner[::-1], 0)  # derivatives of the intersection
        at_low = np.where(self.low > self.other_low, -self.inner[::-1], 0)
        size = self.these[:1:-1]
        union_high, union_low = size - at_high, -size - at_low
        high, low = ((self.union * d - self.shared * u) for d, u in ((at_high, union_high), (at_low, union_low)))
        high, low = _ratio(high, self.union**2), _ratio(low, self.union**2)
        outside_high, outside_low = self.high > self.other_high, self.low < self.other_low
        if self.kind == Yolov3Parameter.GIOU:
            area = self.hull[0] * self.hull[1]
            for of_union, side, out in ((union_high, outside_high, high), (union_low, -1 * outside_low, low)):
                out += _ratio(area * of_union - self.union * (side * self.hull[::-1]), area**2)
        steps = np.concatenate([low + high, high - low])
        if self.kind in (Yolov3Parameter.DIOU, Yolov3Parameter.CIOU):
            distance, diagonal = self._distance()
            far = self.these[:2] - self.those[:2]
            by_high, by_low = 2 * self.hull * outside_high, -2 * self.hull * outside_low
            steps[:2] -= _ratio(2 * far * diagonal - distance * (by_high + by_low), diagonal**2)
            steps[2:] += _ratio(distance * (by_high - by_low) / 2, diagonal**2)
        if self.kind == Yolov3Parameter.CIOU:
            angle = self._angle()
            v = 4 / np.pi**2 * angle**2
            factor = _ratio(v, 1 - self.iou + v) * 8 / np.pi**2 * angle
            steps[2:] += factor * np.stack([self.these[3], -self.these[2]])
        return steps

    def _distance(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the squared distance of the centres, and the squared diagonal of the hull."""
        return ((self.these[:2] - self.those[:2]) ** 2).sum(0), (self.hull**2).sum(0)

    def _angle(self) -> np.ndarray:
        return np.arctan2(self.those[2], self.those[3]) - np.arctan2(self.these[2], self.these[3])


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a / b, and 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b)), np.result_type(a)), where=b != 0)
