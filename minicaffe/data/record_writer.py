"""What converters of images to databases share: reading the images, the keys of the records, and what is logged."""

from __future__ import annotations

import logging
from collections import Counter

from google.protobuf.message import Message

from minicaffe.data.db import DatabaseWriter
from minicaffe.data.image_list import hinting
from minicaffe.data.image_storage import ImageStorage, StoredImage, channels_warning
from minicaffe.errors import DataError

log = logging.getLogger("minicaffe")


class RecordWriter:
    """Writer of one record for each image that can be read.

    database: an open one.  storage: how the images are stored.
    check_size: whether an image of another size than the first is an error.
    """

    def __init__(self, database: DatabaseWriter, storage: ImageStorage, check_size: bool) -> None:
        self.database, self.storage, self.check_size = database, storage, check_size
        self._first: tuple[int, ...] | None = None  # shape of the first image
        self._channels: Counter[int] = Counter()
        self._cut = 0  # keys that were too long

    def read(self, root: str, name: str) -> StoredImage | None:
        """Read the image `root` + `name`; log why it cannot be read, and return None.

        DataError for another size, with `check_size`.
        """
        try:
            with hinting(root, name):
                image = self.storage.read(root + name)
        except DataError as error:
            log.warning("%s", error)
            return None
        self._first = self._first or image.shape
        if self.check_size and image.shape != self._first:
            raise DataError(f"image {root}{name} has shape {image.shape}, but the first one {self._first}")
        self._channels[image.shape[0]] += 1
        return image

    def write(self, number: int, name: str, record: Message) -> None:
        """Store the record of an image; its key is the number, eight digits, and the name, as long as is allowed."""
        key = f"{number:08d}_{name}".encode("utf-8", "surrogateescape")
        self.database.put(key[: self.database.max_key], record.SerializeToString())
        self._cut += len(key) > (self.database.max_key or len(key))
        if self.database.count % 1000 == 0:
            log.info("Processed %d files.", self.database.count)

    def log_end(self, backend: str) -> None:
        """Log what is doubtful about all records, and how many there are."""
        if self._cut:
            log.warning("%d keys were cut to the %d bytes that %s allows", self._cut, self.database.max_key, backend)
        if warning := channels_warning(self._channels):
            log.warning("%s", warning)
        if self.database.count % 1000:
            log.info("Processed %d files.", self.database.count)
