"""The records and labels of BoxData: images with boxes in the float_data of their Datums, for YOLO v1.

A row of a box is (class, difficult, x, y, width, height): centre and size in fractions of the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.data.datum import DatumDecoder, EncodedImage, parsed_datum, record_name
from minicaffe.data.image import resize
from minicaffe.data.part import Part
from minicaffe.data.transformer import NUMBERED, BatchTransformer, Images, Labels, Name, stacked
from minicaffe.data.workers import Each, in_turn
from minicaffe.errors import DataError
from minicaffe.philox import Stream

COLUMNS = 6
_TRIALS = 100  # parts that are drawn until one holds the centre of a box
_MOST = 30  # percent of width and height, below which a part loses


class CellBoxDecoder(DatumDecoder):
    """Decoder of records whose Datum has an image in `data` and rows of boxes in `float_data`."""

    def parse(  # type: ignore[override]  # rows in place of a number
        self, key: bytes, value: bytes | memoryview
    ) -> tuple[np.ndarray | EncodedImage, np.ndarray]:
        name = record_name(key, self.source)
        datum = parsed_datum(value, name)
        rows = np.array(datum.float_data, np.float32)
        if not datum.data or not rows.size or rows.size % COLUMNS or not np.isfinite(rows).all():
            raise DataError(
                f"{name} must hold an image in data, and in float_data {COLUMNS} finite numbers for each of its boxes, "
                f"got {rows.size}"
            )
        datum.ClearField("float_data")
        return self.image_of(datum, name), rows.reshape(-1, COLUMNS)


class CellBoxTransformer(BatchTransformer):
    """The transformation of a BoxData layer: in TRAIN a random part of each image, enlarged to the image's size.

    param: its transform_param; sides: S of each label.  train, rng: as for `BatchTransformer`.
    DataError for fields that move boxes.
    """

    on_host_only = True  # type: ignore[assignment]  # of any parameters

    def __init__(self, param, sides: Sequence[int], train: bool, rng: Stream) -> None:
        super().__init__(param, train, rng)
        if any((*self.crop, self.mirror, self._pad, self.random_size, self._resizers, self._turns)):
            raise DataError(
                "transform_param: boxes do not follow crops, mirror, resize_param and other changes of size or place; "
                "remove them"
            )
        self._sides = sides

    def apply(
        self, images: Images, labels: Labels, dtype: np.dtype, each: Each = in_turn, name: Name = NUMBERED
    ) -> tuple[np.ndarray, ...]:
        """Return the images (N, C, H, W), and for each S the labels (N, 7 S S); labels: the rows of each image."""
        rows, changed = list(labels), list(images)
        parts: list[Part | None] = []
        for i, image in enumerate(images):
            part, rows[i] = self._drawn(image.shape[1:], rows[i]) if self.train else (None, rows[i])
            parts.append(part)

        def change(i: int) -> None:
            part, image = parts[i], images[i]
            if part is not None:
                changed[i] = resize(part.of(image), image.shape[1], image.shape[2])

        each(change, len(changed))
        out = np.empty((len(changed), *self.output_shape(changed[0].shape)), dtype)
        self.transform(stacked(changed), out, each, name)
        return out, *(np.stack([cells_of(own, side, name(i)) for i, own in enumerate(rows)]) for side in self._sides)

    def _drawn(self, size, rows: np.ndarray) -> tuple[Part | None, np.ndarray]:
        """Draw a part that holds a centre; return it and the rows in it, else all."""
        generator, (height, width) = self.rng.generator(), size
        for _ in range(_TRIALS):
            share = 1 - generator.integers(_MOST) / 100
            part = np.array([max(1, int(length * share) - 1) for length in (width, height)])
            corner = generator.integers(np.array([width, height]) - part + 1)
            at = rows[:, 2:4] * [width, height] - corner
            held = ((at >= 0) & (at < part)).all(1)
            if held.any():
                inside = rows[held].copy()
                inside[:, 2:4] = at[held] / part
                inside[:, 4:] *= np.array([width, height]) / part
                return Part(int(corner[1]), int(corner[0]), int(part[1]), int(part[0])), inside
        return None, rows


def cells_of(rows: np.ndarray, side: int, name: str) -> np.ndarray:
    """Return the label (7 S S) of an image: for each cell whether its box is difficult, whether there is one, its class
    (-1: none); then for each cell its box.  Of several boxes in a cell the last counts.

    DataError for a negative class.  name: the image.
    """
    if (rows[:, 0] < 0).any():
        raise DataError(f"{name} has a box of class {rows[:, 0].min():g}: classes are counted from 0")
    cells = np.zeros((side * side, 7), np.float32)
    cells[:, 2] = -1
    column, row = (np.floor(rows[:, k] * side).clip(0, side - 1).astype(int) for k in (2, 3))
    for cell, own in zip(row * side + column, rows):
        cells[cell] = own[1], 1, own[0], *own[2:]
    return np.concatenate([cells[:, :3].T.ravel(), cells[:, 3:].ravel()])
