"""Conversion of annotated images to a database of AnnotatedDatums: the implementation of convert_annoset."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from minicaffe.data.annotations.records import Box, annotated_datum
from minicaffe.data.annotations.sources import Entry
from minicaffe.data.db import open_db
from minicaffe.data.image_storage import PIXELS, ImageStorage
from minicaffe.data.label_map import LabelMap
from minicaffe.data.record_writer import RecordWriter
from minicaffe.errors import DataError
from minicaffe.proto import caffe_pb2

log = logging.getLogger("minicaffe")


class Converted(NamedTuple):
    """What was written: (name, height, width) of each image before it was resized, and the number of boxes."""

    sizes: list[tuple[str, int, int]]
    boxes: int


def convert(
    entries: Sequence[Entry],
    path: str,
    backend: str,
    labels: LabelMap | None = None,
    storage: ImageStorage = PIXELS,
    *,
    check_size: bool = False,
    progress: Callable[[int, int], object] = lambda done, count: None,
) -> Converted:
    """Write the images and boxes of the entries into the database `path`.

    backend: "lmdb" or "leveldb".  labels: gives the labels of classes; None (default): annotations have labels.
    storage: how the images are stored (default: their pixels, in colour, in their own size).
    check_size: raise DataError for an image of another size than the first (default False).
    progress: called with the number of images that are done, and with that of all.
    A key is the number of the image, eight digits, and its path, truncated to the length that the database allows.
    Images that cannot be read are logged and skipped; DataError when none can be read, and for an annotation that
    cannot.  An image without an annotation file has no boxes.
    """
    storage.check()
    log.info("A total of %d images.", len(entries))
    sizes, boxes, without_annotation = [], 0, 0
    with open_db(path, backend, "w") as database:
        records = RecordWriter(database, storage, check_size)
        for number, entry in enumerate(entries):
            progress(number, len(entries))
            if image := records.read(entry.root, entry.name):
                annotation = entry.read()
                without_annotation += annotation is None and entry.label is None
                found = annotation.boxes(image.original, labels) if annotation else []
                records.write(number, entry.name, _record(entry, image.datum, found))
                sizes.append((entry.size_name, *image.original))
                boxes += len(found)
        if not database.count:
            raise DataError(f"none of the {len(entries)} images could be read")
    if without_annotation:
        log.warning("%d images have no annotation file, so no boxes", without_annotation)
    records.log_end(backend)
    return Converted(sizes, boxes)


def _record(entry: Entry, datum: caffe_pb2.Datum, boxes: Sequence[Box]) -> caffe_pb2.AnnotatedDatum:
    if entry.label is not None:
        datum.label = entry.label
        return caffe_pb2.AnnotatedDatum(datum=datum)
    datum.label = -1
    return annotated_datum(datum, boxes)
