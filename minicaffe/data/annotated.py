"""The records of an SSD database, images with annotated boxes, in place of `datum.DatumDecoder`'s."""

from __future__ import annotations

import numpy as np

from minicaffe.data.box_rows import rows_of
from minicaffe.data.datum import DatumDecoder, EncodedImage, parsed_annotated, record_name
from minicaffe.errors import DataError


class AnnotatedDecoder(DatumDecoder):
    """Decoder of the records of an SSD database: the label of a record is the rows of its boxes, see `box_rows`.

    The first record settles whether there are boxes: if it has a type of annotation, or `with_boxes` is True, every
    record must have one; otherwise labels are those of the Datums.

    source, color: as for `DatumDecoder`.  with_boxes: True if the net's prototxt demands boxes.
    """

    def __init__(self, source: str, color: bool | None = None, with_boxes: bool = False) -> None:
        super().__init__(source, color)
        self.with_boxes: bool | None = with_boxes or None  #: None until the first record is read

    def parse(  # type: ignore[override]  # a record of boxes in place of a number
        self, key: bytes, value: bytes | memoryview
    ) -> tuple[np.ndarray | EncodedImage, int | np.ndarray]:
        name = record_name(key, self.source)
        record = parsed_annotated(value, name)
        if self.with_boxes is None:
            self.with_boxes = record.HasField("type")
        if not self.with_boxes:
            return self.image_of(record.datum, name), record.datum.label
        if not record.HasField("type"):
            raise DataError(f"{name} must have a type of annotation, BBOX, but has none")
        return self.image_of(record.datum, name), rows_of(record, name)
