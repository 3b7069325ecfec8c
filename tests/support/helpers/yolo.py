"""YOLO's boxes in plain loops, as its papers give them."""

from math import exp


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
