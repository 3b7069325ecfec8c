"""Conversion of annotated images to a database of AnnotatedDatums: the implementation of convert_annoset."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from minicaffe.data.annotations.records import annotated_datum
from minicaffe.data.annotations.sources import Entry
from minicaffe.data.db import DatabaseWriter, open_db
from minicaffe.data.image_list import hinting
from minicaffe.data.image_storage import PIXELS, ImageStorage, StoredImage, channels_warning
from minicaffe.data.imageset import put
from minicaffe.data.label_map import LabelMap
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
    with open_db(path, backend, "w") as database:
        writer = _Writer(database, labels, storage, check_size)
        for number, entry in enumerate(entries):
            progress(number, len(entries))
            writer.write(number, entry)
        if not database.count:
            raise DataError(f"none of the {len(entries)} images could be read")
    writer.log_end(backend)
    return Converted(writer.sizes, writer.boxes)


@dataclass
class _Writer:
    """The records of one conversion: their number, sizes, and what is doubtful about them."""

    database: DatabaseWriter
    labels: LabelMap | None
    storage: ImageStorage
    check_size: bool
    sizes: list[tuple[str, int, int]] = field(default_factory=list)
    boxes: int = 0
    without_annotation: int = 0
    cut: int = 0
    channels: Counter[int] = field(default_factory=Counter)
    first: tuple[int, ...] | None = None

    def write(self, number: int, entry: Entry) -> None:
        """Write the record of an entry, or log that its image cannot be read."""
        try:
            with hinting(entry.root, entry.name):
                image = self.storage.read(entry.root + entry.name)
        except DataError as error:
            log.warning("%s", error)
            return
        self._check_shape(entry, image)
        self.cut += put(self.database, f"{number:08d}_{entry.name}", self._record(entry, image))
        self.sizes.append((entry.size_name, *image.original))
        if self.database.count % 1000 == 0:
            log.info("Processed %d files.", self.database.count)

    def _check_shape(self, entry: Entry, image: StoredImage) -> None:
        self.channels[image.shape[0]] += 1
        self.first = self.first or image.shape
        if self.check_size and image.shape != self.first:
            raise DataError(f"image {entry.root}{entry.name} has shape {image.shape}, but the first one {self.first}")

    def _record(self, entry: Entry, image: StoredImage) -> caffe_pb2.AnnotatedDatum:
        if entry.label is not None:
            image.datum.label = entry.label
            return caffe_pb2.AnnotatedDatum(datum=image.datum)
        image.datum.label = -1
        annotation = entry.read()
        self.without_annotation += annotation is None
        boxes = annotation.boxes(image.original, self.labels) if annotation else []
        self.boxes += len(boxes)
        return annotated_datum(image.datum, boxes)

    def log_end(self, backend: str) -> None:
        """Log what is doubtful about all records, and how many there are."""
        if self.cut:
            log.warning("%d keys were cut to the %d bytes that %s allows", self.cut, self.database.max_key, backend)
        if warning := channels_warning(self.channels):
            log.warning("%s", warning)
        if self.without_annotation:
            log.warning("%d images have no annotation file, so no boxes", self.without_annotation)
        if self.database.count % 1000:
            log.info("Processed %d files.", self.database.count)
