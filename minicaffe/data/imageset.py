"""Convert a list of images to a database: the implementation of convert_imageset."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from minicaffe.data.db import open_db
from minicaffe.data.image_list import read_list
from minicaffe.data.image_storage import PIXELS, ImageStorage
from minicaffe.data.record_writer import RecordWriter
from minicaffe.data.shuffle import draw_seed, shuffled
from minicaffe.errors import DataError
from minicaffe.philox import Stream

log = logging.getLogger("minicaffe")

Entry = TypeVar("Entry")


def convert(
    root: str,
    source: str,
    path: str,
    backend: str,
    storage: ImageStorage = PIXELS,
    *,
    rng: Stream | None = None,
    check_size: bool = False,
    progress: Callable[[int, int], object] = lambda done, count: None,
) -> int:
    """Write the images of the list `source` into the database `path`; return the number of images written.

    root: prepended to each path.  backend: "lmdb" or "leveldb".  storage: how the images are stored (default: their
        pixels, in colour, in their own size).
    rng: stream of random numbers that shuffles the list first; None (default): in the order of the list.
    check_size: raise DataError for an image of another size than the first (default False).
    progress: called with the number of images that are done, and with that of all.
    A key is the number of the image, eight digits, and its path, truncated to the length that the database allows.
    Images that cannot be read are logged and skipped; DataError when none can be read.  UsageError when only one of
    height and width is given.
    """
    storage.check()
    entries = read_list(source) if rng is None else shuffled_entries(read_list(source), rng)
    log.info("A total of %d images.", len(entries))
    with open_db(path, backend, "w") as database:
        records = RecordWriter(database, storage, check_size)
        for number, (name, label) in enumerate(entries):
            progress(number, len(entries))
            if image := records.read(root, name):
                image.datum.label = label
                records.write(number, name, image.datum)
        if not database.count:
            raise DataError(f"none of the {len(entries)} images in {source} could be read")
    records.log_end(backend)
    return database.count


def shuffled_entries(entries: list[Entry], rng: Stream) -> list[Entry]:
    """Return the entries of a list in a random order."""
    log.info("Shuffling data")
    order = shuffled(draw_seed(rng), 0, len(entries))
    return [entries[i] for i in order]
