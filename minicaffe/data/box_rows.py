"""The annotated boxes of an image, in records and under a crop or a flip; functions of rows, no state.

Rows are (n, 7) float32, one for each box, in the order of the record: label of its group, number of the instance, xmin,
ymin, xmax, ymax as fractions of the image, and 1 if the box is difficult.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.errors import DataError
from minicaffe.proto.caffe_pb2 import AnnotatedDatum, EmitConstraint

COLUMNS = 7
WHOLE = np.array([0, 0, 1, 1], np.float32)  #: the region of a whole image
_BOX = slice(2, 6)


def rows_of(datum: AnnotatedDatum, name: str) -> np.ndarray:
    """Return the rows of a record; name: the record, for errors.

    Boxes that are turned inside out have no area: `projected` drops them, as the fork does.
    DataError for a corner that is no number or infinite.
    """
    found = [
        (group.group_label, each.instance_id, box.xmin, box.ymin, box.xmax, box.ymax, box.difficult)
        for group in datum.annotation_group
        for each in group.annotation
        for box in (each.bbox,)
    ]
    rows = np.array(found, np.float32).reshape(-1, COLUMNS)
    wrong = ~np.isfinite(corners_of(rows)).all(1)
    if wrong.any():
        index = int(wrong.argmax())
        corners = ", ".join(f"{value:g}" for value in corners_of(rows)[index])
        raise DataError(f"{name}: box {index} must have finite corners, got {corners}")
    return rows


def corners_of(rows: np.ndarray) -> np.ndarray:
    """Return a view of the corners in rows, (n, 4)."""
    return rows[:, _BOX]


def with_boxes(rows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return rows with other corners, (n, 4)."""
    result = rows.copy()
    result[:, _BOX] = boxes
    return result


def projected(rows: np.ndarray, region: Sequence[float] | np.ndarray, emit: EmitConstraint | None) -> np.ndarray:
    """Return the rows of a part of the image: boxes relative to it, clipped to it, without those that vanish.

    region: (xmin, ymin, xmax, ymax) of the part, as fractions of the image; it may be larger than the image.
    emit: an emit_constraint, which drops more boxes; None: it does not.
    """
    region = np.asarray(region, np.float32)
    result = rows[_emitted(corners_of(rows), region, emit)] if emit is not None else rows.copy()
    boxes = corners_of(result)
    inside(boxes, region).clip(0, 1, out=boxes)
    return result[(boxes[:, :2] < boxes[:, 2:]).all(1)]


def inside(boxes: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Return boxes (..., 4) in fractions of a region instead of those of the image; region: its (4,) in the latter."""
    low, high = region[:2], region[2:]
    return (boxes - np.tile(low, 2)) / np.tile(np.maximum(high - low, np.finfo(np.float32).eps), 2)


def mirrored(rows: np.ndarray) -> np.ndarray:
    """Return the rows of the image flipped left to right."""
    result = rows.copy()
    result[:, 2], result[:, 4] = 1 - rows[:, 4], 1 - rows[:, 2]
    return result


def label_rows(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return the label (1, 1, M, 8) of a batch: the rows of all its images, each with the image's number before it.

    Without any box: one row of -1.
    """
    label = np.concatenate([np.insert(own, 0, index, axis=1) for index, own in enumerate(rows)])
    return (label if len(label) else np.full((1, 1 + COLUMNS), -1, np.float32))[None, None]


def areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas of boxes (..., 4), 0 for those that are turned inside out."""
    return (boxes[..., 2:] - boxes[..., :2]).clip(0).prod(-1)


def common(these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """Return the boxes (..., 4) that boxes have in common, turned inside out where they have nothing."""
    return np.concatenate(
        [np.maximum(these[..., :2], those[..., :2]), np.minimum(these[..., 2:], those[..., 2:])], axis=-1
    )


def _emitted(boxes: np.ndarray, region: np.ndarray, emit: EmitConstraint) -> np.ndarray:
    """Return which boxes meet an emit_constraint for a region, bool (n,)."""
    if emit.emit_type == EmitConstraint.CENTER:
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        return ((centre >= region[:2]) & (centre <= region[2:])).all(1)
    return areas(common(boxes, region)) > emit.emit_overlap * areas(boxes)
