"""The records of RoIDataLayer: images with boxes, as py-faster-rcnn's roidb has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicaffe.data.image import read_pixels
from minicaffe.errors import UsageError
from minicaffe.layers.shared.pixel_boxes import encode_pixels, pixel_overlaps


@dataclass(frozen=True)
class Record:
    """An image with its boxes, which are of the image as it is after flipping."""

    name: str  #: for messages
    pixels: Callable[[], np.ndarray]  #: reads the image (3, H, W), BGR, not flipped
    boxes: np.ndarray  #: (n, 4), in pixels
    classes: np.ndarray  #: (n,), of annotated boxes; 0 for proposed ones
    flipped: bool = False
    wide: bool | None = None  #: whether the image is at least as wide as it is high; None: unknown
    given: Mapping[str, Any] | None = None  #: max_overlaps, max_classes, bbox_targets of a roidb, where it has them

    def image(self) -> np.ndarray:
        """Return the image (3, H, W), flipped if it is to be."""
        pixels = self.pixels()
        return pixels[:, :, ::-1] if self.flipped else pixels

    def regions(self, threshold: float) -> Regions:
        """Return the boxes as regions with the objects that they overlap most.

        threshold: least overlap of a region that has a target (cfg.TRAIN.BBOX_THRESH).
        """
        given, objects = self.given or {}, np.flatnonzero(self.classes > 0)
        shared = pixel_overlaps(self.boxes, self.boxes[objects])
        most, best = shared.max(1, initial=0), np.zeros(len(self.boxes), int)
        if len(objects):
            best = objects[shared.argmax(1)]
        most = np.asarray(given.get("max_overlaps", most), np.float64)
        labels = np.asarray(given.get("max_classes", np.where(most > 0, self.classes[best], 0)))
        if (targets := given.get("bbox_targets")) is None:
            targets = np.zeros((len(self.boxes), 4))
            near = np.flatnonzero((most >= threshold) & bool(len(objects)))
            targets[near] = encode_pixels(self.boxes[best[near]], self.boxes[near])
            return Regions(most, labels, targets, normalized=False)
        return Regions(most, labels, np.asarray(targets, np.float64)[:, 1:], normalized=True)


@dataclass(frozen=True)
class Regions:
    """What is derived from the boxes of a Record."""

    overlaps: np.ndarray  #: (n,), the largest overlap with an object
    labels: np.ndarray  #: (n,), the class of that object; 0 without an overlap
    targets: np.ndarray  #: (n, 4), codes of that object relative to the box
    normalized: bool  #: whether means and standard deviations have been taken out of the targets


def records_of(roidb: Sequence[Mapping[str, Any]]) -> list[Record]:
    """Return the records of a roidb; UsageError for an entry that lacks a key, or has arrays that do not match.

    roidb: dicts with image (path), boxes (n, 4), gt_classes (n,), optionally flipped, width and height, and, for
    training on given proposals, max_overlaps (n,), max_classes (n,), bbox_targets (n, 5).
    """
    return [_record(number, entry) for number, entry in enumerate(roidb)]


def _record(number: int, entry: Mapping[str, Any]) -> Record:
    for key in ("image", "boxes", "gt_classes"):
        if key not in entry:
            raise UsageError(f"entry {number} of the roidb has no '{key}'")
    path, boxes, classes = entry["image"], np.asarray(entry["boxes"]), np.asarray(entry["gt_classes"])
    if boxes.ndim != 2 or boxes.shape[1] != 4 or classes.shape != boxes.shape[:1]:
        raise UsageError(
            f"entry {number} of the roidb must have boxes (n, 4), gt_classes (n,), got {boxes.shape}, {classes.shape}"
        )
    given = {key: entry[key] for key in ("max_overlaps", "max_classes", "bbox_targets") if entry.get(key) is not None}
    for key, value in given.items():
        if len(value) != len(boxes):
            raise UsageError(f"entry {number} of the roidb has {len(boxes)} boxes, but {len(value)} {key}")
    wide = entry["width"] >= entry["height"] if "width" in entry and "height" in entry else None
    boxes = boxes.astype(np.float64)  # of a roidb they are uint16
    return Record(str(path), lambda: read_pixels(path), boxes, classes, bool(entry.get("flipped")), wide, given)


def flipped(record: Record, width: int) -> Record:
    """Return the mirror image of a record; width: of its image, in pixels."""
    boxes = record.boxes.copy()
    boxes[:, 0], boxes[:, 2] = width - record.boxes[:, 2] - 1, width - record.boxes[:, 0] - 1
    return Record(record.name, record.pixels, boxes, record.classes, not record.flipped, record.wide)
