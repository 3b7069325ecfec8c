"""YOLO's boxes in plain loops, as its papers give them."""

from math import exp

import numpy as np


def logistic(x):
    return 1 / (1 + exp(-x))


def box_of(code, i, j, width, height, size):
    """Centre and size of a box from its code at column i and row j; size: of its anchor, as fractions."""
    x, y, w, h = code
    return [(i + logistic(x)) / width, (j + logistic(y)) / height, size[0] * exp(w), size[1] * exp(h)]


def overlap(a, b):
    """The intersection of two boxes, divided by their union."""
    sides = [
        min(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2) - max(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2) for k in (0, 1)
    ]
    shared = sides[0] * sides[1] if min(sides) > 0 else 0.0
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def suppressed(found, threshold):
    """Of rows (score, label, box), the best first: those that no better one that is kept overlaps so much."""
    kept = []
    for row in sorted(found, key=lambda row: -row[0]):
        if all(overlap(row[2], other[2]) < threshold for other in kept):
            kept.append(row)
    return kept


def rows_of(image, kept):
    """The rows that a layer reports."""
    return [
        [image, label + 1, score, x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        for score, label, (x, y, w, h) in kept
    ]  # fmt: skip


def true_boxes(rng, images, most, classes, rows=None):
    """Labels (images, 1, rows, 5) of 0 to `most` boxes each, of several sizes; by default one row more than `most`."""
    labels = np.zeros((images, 1, rows or most + 1, 5))
    for own in labels[:, 0]:
        for row in own[: rng.integers(0, most + 1)]:
            width, height = rng.uniform(0.1, 0.6, 2)
            centre = [rng.uniform(size / 2, 1 - size / 2) for size in (width, height)]
            row[:] = [rng.integers(classes), *centre, width, height]
    return labels


def as_rows(labels):
    """The same boxes in AnnotatedData's rows (1, 1, M, 8), class 0 as label 1; without any box one row of -1."""
    rows = []
    for image, own in enumerate(labels[:, 0]):
        for label, x, y, width, height in own:
            if width:
                rows.append([image, label + 1, 0, x - width / 2, y - height / 2, x + width / 2, y + height / 2, 0])
    return np.array([[rows or [[-1] * 8]]]).reshape(1, 1, -1, 8).astype(float)
