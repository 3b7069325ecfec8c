"""Convert a list of images to a database: the implementation of convert_imageset."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

from google.protobuf.message import Message

from minicaffe.data.db import DatabaseWriter, open_db
from minicaffe.data.image_list import hinting, read_list
from minicaffe.data.image_storage import PIXELS, ImageStorage, channels_warning
from minicaffe.data.shuffle import draw_seed, shuffled
from minicaffe.errors import DataError
from minicaffe.philox import Stream
from minicaffe.proto import caffe_pb2

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
    expected, cut = None, 0
    channels: Counter[int] = Counter()
    with open_db(path, backend, "w") as database:
        for number, name, datum, shape in _readable(root, entries, storage, progress):
            channels[shape[0]] += 1
            if check_size and shape != (expected := expected or shape):
                raise DataError(f"image {root + name} has shape {shape}, but the first one {expected}")
            cut += put(database, f"{number:08d}_{name}", datum)
            if database.count % 1000 == 0:
                log.info("Processed %d files.", database.count)
        if not database.count:
            raise DataError(f"none of the {len(entries)} images in {source} could be read")
    if cut:
        log.warning("%d keys were cut to the %d bytes that %s allows", cut, database.max_key, backend)
    if warning := channels_warning(channels):
        log.warning("%s", warning)
    if database.count % 1000:
        log.info("Processed %d files.", database.count)
    return database.count


def _readable(
    root: str, entries: list[tuple[str, int]], storage: ImageStorage, progress: Callable[[int, int], object]
) -> Iterator[tuple[int, str, caffe_pb2.Datum, tuple[int, ...]]]:
    """Yield number, name, labelled Datum and shape of each image that can be read; log why others are left out.

    storage, progress: as of `convert`; progress is called before each image.
    """
    for number, (name, label) in enumerate(entries):
        progress(number, len(entries))
        try:
            with hinting(root, name):
                datum, shape, _ = storage.read(root + name)
        except DataError as error:
            log.warning("%s", error)
            continue
        datum.label = label
        yield number, name, datum, shape


def shuffled_entries(entries: list[Entry], rng: Stream) -> list[Entry]:
    """Return the entries of a list in a random order."""
    log.info("Shuffling data")
    order = shuffled(draw_seed(rng), 0, len(entries))
    return [entries[i] for i in order]


def put(database: DatabaseWriter, key: str, record: Message) -> bool:
    """Store a record, its key truncated to the length that the database allows; return whether it was truncated."""
    whole = key.encode("utf-8", "surrogateescape")
    database.put(whole[: database.max_key], record.SerializeToString())
    return len(whole) > (database.max_key or len(whole))
