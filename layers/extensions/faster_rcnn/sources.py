"""Images with boxes that RoIDataLayer reads without a script: databases of AnnotatedDatums, folders of VOC's layout."""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from minicaffe.data.annotations import voc
from minicaffe.data.box_rows import WHOLE, corners_of, projected, rows_of
from minicaffe.data.datum import datum_to_array, parsed_annotated, record_name
from minicaffe.data.db import Database, open_db
from minicaffe.data.image import read_pixels
from minicaffe.data.image_file import opened, read_bytes
from minicaffe.data.label_map import LabelMap, read_label_map
from minicaffe.layers.extensions.faster_rcnn.roidb import Record, flipped
from minicaffe.proto import caffe_pb2

if TYPE_CHECKING:
    from minicaffe.layers.extensions.faster_rcnn.roi_data_layer import RoIDataSettings

log = logging.getLogger("minicaffe.data")


def read_source(settings: RoIDataSettings) -> list[Record]:
    """Return the images of a source that have boxes, then, with `use_flipped`, their mirror images.

    DataError when it cannot be read.
    """
    read = _voc_folder if os.path.isdir(os.path.join(settings.source, voc.SETS)) else _database
    records = [each for each in read(settings) if (each[0].classes > 0).any()]
    log.info("%d images with boxes in %s", len(records), settings.source)
    mirrored = [flipped(record, width) for record, width in records] if settings.use_flipped else []
    return [record for record, _ in records] + mirrored


def _database(settings: RoIDataSettings):
    """Yield the records of a database, with the widths of their images; boxes are clipped to their image."""
    database = open_db(settings.source)
    for key, value in database.items():
        name = record_name(key, settings.source)
        annotated = parsed_annotated(value, name)
        height, width = _size(annotated.datum, name)
        rows = projected(rows_of(annotated, name), WHOLE, None)
        rows = rows if settings.use_difficult else rows[rows[:, -1] == 0]
        corners = corners_of(rows) * np.array([width, height, width, height], float) - [0, 0, 1, 1]
        pixels = _Pixels(database, key, settings.source)
        yield Record(name, pixels, corners, rows[:, 0].astype(int), wide=width >= height), width


class _Pixels:
    """Reads the image of a record; called once for each time that it is used."""

    def __init__(self, database: Database, key: bytes, source: str) -> None:
        self._database, self._key, self._source = database, key, source

    def __call__(self) -> np.ndarray:
        name = record_name(self._key, self._source)
        pixels = datum_to_array(parsed_annotated(self._database.get(self._key), name).datum, True, name)
        return pixels if len(pixels) == 3 else np.repeat(pixels[:1], 3, 0)


def _size(datum: caffe_pb2.Datum, name: str) -> tuple[int, int]:
    """Return the height and width of an image, of an encoded one without decoding it."""
    if not datum.encoded:
        return datum.height, datum.width
    return _encoded_size(datum.data, name)


def _encoded_size(content: bytes, name: str) -> tuple[int, int]:
    with opened(content, name) as image:
        return image.height, image.width


def _voc_folder(settings: RoIDataSettings):
    """Yield the records of a set of a VOC folder, with the widths of their images.

    VOC counts pixels from 1; as in py-faster-rcnn 1 is subtracted from all edges.
    """
    folder = settings.source
    if settings.label_map_file:
        labels = read_label_map(settings.label_map_file)
    else:
        names = dict(enumerate(voc.CLASSES, 1))
        labels = LabelMap("of VOC's twenty classes", names, names)
    for image, annotation in voc.read_set(folder, settings.split):
        path, found = os.path.join(folder, image), voc.read_annotation(os.path.join(folder, annotation))
        objects = [each for each in found.objects if settings.use_difficult or not each.difficult]
        height, width = found.size or _encoded_size(read_bytes(path), path)
        corners = np.array([each[1:5] for each in objects]).reshape(-1, 4) - 1
        classes = np.array([labels.label_of(str(each.name)) for each in objects], int)
        yield Record(path, partial(read_pixels, path), corners, classes, wide=width >= height), width
