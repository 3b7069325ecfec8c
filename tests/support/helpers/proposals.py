"""Proposals and targets of a region proposal network by plain loops, as py-faster-rcnn's code defines them."""

import math

import numpy as np


def iou(a, b):
    """The intersection over union of two boxes in pixels, both ends included."""
    width, height = (min(a[k + 2], b[k + 2]) - max(a[k], b[k]) + 1 for k in (0, 1))
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def encode(anchor, box):
    """The four codes of a box relative to an anchor."""
    (w, h), (bw, bh) = (((each[2] - each[0] + 1), (each[3] - each[1] + 1)) for each in (anchor, box))
    x, y, bx, by = anchor[0] + w / 2, anchor[1] + h / 2, box[0] + bw / 2, box[1] + bh / 2
    return [(bx - x) / w, (by - y) / h, math.log(bw / w), math.log(bh / h)]


def decode(anchor, code):
    """The box of four codes."""
    w, h = anchor[2] - anchor[0] + 1, anchor[3] - anchor[1] + 1
    x, y = anchor[0] + w / 2 + code[0] * w, anchor[1] + h / 2 + code[1] * h
    w, h = w * math.exp(code[2]), h * math.exp(code[3])
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def anchors(ratios, scales, base=16):
    """The anchors of the first place."""
    found = []
    for ratio in ratios:
        w = round(math.sqrt(base * base / ratio))
        h = round(w * ratio)
        for scale in scales:
            half = [(side * scale - 1) / 2 for side in (w, h)]
            centre = (base - 1) / 2
            found.append([centre - half[0], centre - half[1], centre + half[0], centre + half[1]])
    return found


def candidates(first, scores, codes, info, stride):
    """Yield (score, clipped box, anchor) for all anchors of all places; scores (2 A, H, W), codes (4 A, H, W)."""
    for i, j in np.ndindex(scores.shape[1:]):
        for k, anchor in enumerate(first):
            shifted = [corner + stride * (j, i)[n % 2] for n, corner in enumerate(anchor)]
            box = decode(shifted, codes[4 * k : 4 * k + 4, i, j])
            box = [max(0, min(corner, info[1 - n % 2] - 1)) for n, corner in enumerate(box)]
            yield scores[len(first) + k, i, j], box, shifted


def proposals(found, before, after, threshold):
    """The (score, box) pairs that are left of (score, box) pairs, the best first."""
    kept = []
    for score, box in sorted(found, key=lambda each: -each[0])[: before or None]:
        if all(iou(box, other) <= threshold for _, other in kept):
            kept.append((score, box))
    return kept[: after or None]


def is_large(box, least_width, least_height):
    return box[2] - box[0] + 1 >= least_width and box[3] - box[1] + 1 >= least_height
