"""YOLO v1's labels and predictions, drawn at random."""

import numpy as np


def labels_of(cells, objects, classes=3):
    """A function that draws labels (N, 7 S S) with this share of cells that hold an object."""

    def draw(rng, shape):
        n, count = shape[0], cells * cells
        given = rng.random((n, count)) < objects
        difficult = (rng.random((n, count)) < 0.3) & given
        label = np.where(given, rng.integers(0, classes, (n, count)), -1)
        row, column = np.divmod(np.arange(count), cells)
        at = (np.stack([column, row], 1) + rng.random((n, count, 2))) / cells
        boxes = np.concatenate([at, rng.uniform(0.1, 0.6, (n, count, 2))], 2) * given[..., None]
        return np.concatenate([difficult, given, label, boxes.reshape(n, -1)], 1).astype(float)

    return draw


def predictions(rng, shape):
    """Numbers between 0.05 and 0.95, so that boxes have a positive size."""
    return rng.uniform(0.05, 0.95, shape)


def in_image(box, cell, side, roots, inside):
    """A predicted box as centre and size in the image."""
    x, y, w, h = box
    if inside:
        x, y = (cell % side + x) / side, (cell // side + y) / side
    return [x, y, w * w, h * h] if roots else [x, y, w, h]
