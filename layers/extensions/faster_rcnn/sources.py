"""Images with boxes that RoIDataLayer reads without a script: databases of AnnotatedDatums, folders of VOC's layout."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.message import DecodeError

from minicaffe.data.annotations.records import boxes_of
from minicaffe.data.datum import datum_to_array, record_name
from minicaffe.data.db import Database, open_db
from minicaffe.data.image_file import opened
from minicaffe.errors import DataError
from minicaffe.layers.extensions.faster_rcnn.roidb import Record, flipped
from minicaffe.proto import caffe_pb2

if TYPE_CHECKING:
    from minicaffe.layers.extensions.faster_rcnn.roi_data_layer import RoIDataSettings

log = logging.getLogger("minicaffe.data")


def read_source(settings: RoIDataSettings) -> list[Record]:
    """Return the images of a source that have boxes, then, with `use_flipped`, their mirror images.

    DataError when it cannot be read.
    """
    records = [each for each in _database(settings) if (each[0].classes > 0).any()]
    log.info("%d images with boxes in %s", len(records), settings.source)
    mirrored = [flipped(record, width) for record, width in records] if settings.use_flipped else []
    return [record for record, _ in records] + mirrored


def _database(settings: RoIDataSettings):
    """Yield the records of a database, with the widths of their images."""
    database = open_db(settings.source)
    for key, value in database.items():
        annotated = _parsed(key, value, settings.source)
        height, width = _size(annotated.datum, record_name(key, settings.source))
        boxes = [box for box in boxes_of(annotated) if settings.use_difficult or not box.difficult]
        corners = np.array([box[1:5] for box in boxes]).reshape(-1, 4) * [width, height, width, height]
        classes = np.array([box.label for box in boxes], int)
        yield Record(
            record_name(key, settings.source), _Pixels(database, key, settings.source),
            corners - [0, 0, 1, 1], classes, wide=width >= height,
        ), width  # fmt: skip


class _Pixels:
    """Reads the image of a record; called once for each time that it is used."""

    def __init__(self, database: Database, key: bytes, source: str) -> None:
        self._database, self._key, self._source = database, key, source

    def __call__(self) -> np.ndarray:
        annotated = _parsed(self._key, self._database.get(self._key), self._source)
        pixels = datum_to_array(annotated.datum, True, record_name(self._key, self._source))
        return pixels if len(pixels) == 3 else np.repeat(pixels[:1], 3, 0)


def _parsed(key: bytes, value: bytes | memoryview, source: str) -> caffe_pb2.AnnotatedDatum:
    annotated = caffe_pb2.AnnotatedDatum()
    try:
        annotated.ParseFromString(bytes(value))
    except DecodeError as error:
        raise DataError(f"{record_name(key, source)} is no AnnotatedDatum") from error
    return annotated


def _size(datum: caffe_pb2.Datum, name: str) -> tuple[int, int]:
    """Return the height and width of an image, of an encoded one without decoding it."""
    if not datum.encoded:
        return datum.height, datum.width
    with opened(datum.data, name) as image:
        return image.height, image.width
