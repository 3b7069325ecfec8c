"""geometry_param of a transform_param, from jolibrain's Caffe: pictures are seen from nearer, farther or aside.

Source: `getQuads`, `ApplyGeometry` and `filterBBoxes` (im_transforms.cpp).  There the boxes of each label are moved by
another draw than the picture; here all by that of the picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from minicaffe.data.box_rows import corners_of, with_boxes
from minicaffe.data.warp import Border, warp
from minicaffe.data.workers import Each
from minicaffe.errors import DataError
from minicaffe.philox import Stream
from minicaffe.proto.caffe_pb2 import GeometryParameter

_BORDERS: dict[int, Border] = {
    GeometryParameter.CONSTANT: "constant",
    GeometryParameter.MIRRORED: "reflect",
    GeometryParameter.REPEAT_NEAREST: "edge",
}
_VISIBLE = 0.75  # a box is kept if more of its area is in the picture


class Geometry:
    """The random changes of view of a GeometryParameter.

    DataError for factors that are not from 0 to below 1/2.
    """

    def __init__(self, param: GeometryParameter) -> None:
        for name in ("zoom_factor", "persp_factor"):
            if not 0 <= getattr(param, name) < 0.5:
                raise DataError(f"geometry_param: {name} must be 0 or more and below 0.5, got {getattr(param, name):g}")
        self.param = param

    def draw(self, generator: np.random.Generator, height: int, width: int) -> np.ndarray | None:
        """Draw for a picture of height x width: the map of positions (x, y, 1) after it to those before, (3, 3).

        None for a picture that stays as it is.
        """
        param, size = self.param, np.array([width, height])
        chance, *choices = generator.random(4)
        shares = generator.random(4)
        if chance >= param.prob:
            return None
        near, far = param.zoom_in or param.all_effects, param.zoom_out or param.all_effects
        corner, opposite = np.zeros(2), size - 1.0
        if near or far:
            is_near = near and not (far and choices[0] < 0.5)
            corner = shares[:2] * size * param.zoom_factor * (1 if is_near else -1)
            opposite = size - corner
        before = np.array([[corner[0], corner[1]], [opposite[0], corner[1]], opposite, [corner[0], opposite[1]]])
        after = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)
        if param.persp_horizontal or param.all_effects:
            shift = shares[2] * height * param.persp_factor
            top, bottom = (0, 3) if choices[1] < 0.5 else (1, 2)
            after[top, 1], after[bottom, 1] = shift, height - shift
        if param.persp_vertical or param.all_effects:
            shift = shares[3] * width * param.persp_factor
            left, right = (3, 2) if choices[2] < 0.5 else (0, 1)
            after[left, 0], after[right, 0] = shift, width - shift
        return quad_map(after, before)

    def views(
        self, rng: Stream, images: Sequence[np.ndarray], rows: Sequence[np.ndarray], each: Each
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return images, and their rows of boxes if there are any, with the changes that are drawn for them."""
        generator, result = rng.generator(), list(images)
        drawn = [self.draw(generator, *image.shape[1:]) for image in images]

        def see(i: int) -> None:
            result[i] = self.image(images[i], drawn[i])

        each(see, len(result))
        return result, [self.rows(own, view, *image.shape[1:]) for own, view, image in zip(rows, drawn, images)]

    def image(self, image: np.ndarray, source: np.ndarray | None) -> np.ndarray:
        """Return the picture (C, H, W) of a `draw`."""
        return image if source is None else warp(image, source, "LINEAR", _BORDERS[self.param.pad_mode], np.zeros(1))

    def rows(self, rows: np.ndarray, source: np.ndarray | None, height: int, width: int) -> np.ndarray:
        """Return the rows of boxes (see box_rows.py) on a picture of height x width, after a `draw`.

        A box becomes the smallest around its corners, inside the picture; most of it must be.  With MIRRORED those of
        the picture's mirror images around it count as well.
        """
        if source is None or not len(rows):
            return rows
        boxes = corners_of(rows).astype(np.float64)
        steps = (-1, 0, 1) if self.param.pad_mode == GeometryParameter.MIRRORED else (0,)
        copies = [_mirrored(boxes, *step) for step in itertools.product(steps, steps)]
        rows, boxes = np.concatenate([rows] * len(copies)), np.concatenate(copies)
        x, y = boxes[:, [0, 2, 2, 0]] * width, boxes[:, [1, 1, 3, 3]] * height
        moved = np.linalg.inv(source) @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
        front = (moved[2] > 1e-6).reshape(x.shape).all(1)
        x, y = (moved[:2] / np.where(moved[2] == 0, 1, moved[2])).reshape(2, *x.shape) / [[[width]], [[height]]]
        boxes = np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], 1)
        inside = boxes.clip(0, 1)
        kept = front & (_areas(inside) > _VISIBLE * _areas(boxes))
        return with_boxes(rows[kept], inside[kept].astype(np.float32))


def quad_map(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return the projective map (3, 3) that takes four points (4, 2) to four others."""
    lines, values = [], []
    for (x, y), (u, v) in zip(old, new):
        lines += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.append(np.linalg.solve(lines, values), 1).reshape(3, 3)


def _mirrored(boxes: np.ndarray, across: int, down: int) -> np.ndarray:
    """Return the boxes on the mirror image of the picture that is so many pictures away, -1, 0 or 1."""
    result = boxes.copy()
    for step, low, high in ((across, 0, 2), (down, 1, 3)):
        if step:
            edge = 0 if step < 0 else 2
            result[:, low], result[:, high] = edge - boxes[:, high], edge - boxes[:, low]
    return result


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
