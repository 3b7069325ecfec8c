"""Convert a list of images to a database: the implementation of convert_imageset."""

from __future__ import annotations

import functools
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator

from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import DatabaseWriter, open_db
from minicaffe.data.image import decode_image, encode_image, read_image, resize
from minicaffe.data.image_file import read_bytes
from minicaffe.data.image_list import hinting, read_list
from minicaffe.data.shuffle import draw_seed, shuffled
from minicaffe.errors import DataError, UsageError, listed
from minicaffe.philox import Stream
from minicaffe.proto import caffe_pb2

log = logging.getLogger("minicaffe")


def convert(
    root: str,
    source: str,
    path: str,
    backend: str,
    *,
    gray: bool = False,
    rng: Stream | None = None,
    size: tuple[int, int] = (0, 0),
    check_size: bool = False,
    encoded: bool = False,
    encode_type: str = "",
    progress: Callable[[int, int], object] = lambda done, count: None,
) -> int:
    """Write the images of the list `source` into the database `path`; return the number of images written.

    root: prepended to each path.  backend: "lmdb" or "leveldb".  gray: store one channel (default False).
    rng: stream of random numbers that shuffles the list first; None (default): in the order of the list.
    size: (height, width), in pixels, to resize to; (0, 0) (default): not resized.
    check_size: raise DataError for an image of another size than the first (default False).
    encoded: store image files instead of pixels (default False).  A file is stored unchanged, unless `encode_type`,
        `size` or `gray` requires a new one.
    encode_type: the type of new image files, such as "png"; "" (default): that of the original file.
    progress: called with the number of images that are done, and with that of all.
    A key is the number of the image, eight digits, and its path, truncated to the length that the database allows.
    Images that cannot be read are logged and skipped; DataError when none can be read.  UsageError when only one of
    height and width is given.
    """
    if bool(size[0]) != bool(size[1]):
        raise UsageError(f"resize_width and resize_height must be given together, got {size[1]} and {size[0]}")
    entries = read_list(source) if rng is None else _shuffled(read_list(source), rng)
    log.info("A total of %d images.", len(entries))
    expected, cut = None, 0
    channels: Counter[int] = Counter()
    with open_db(path, backend, "w") as database:
        read = functools.partial(_read, gray=gray, size=size, encoded=encoded, encode_type=encode_type)
        for number, name, datum, shape in _readable(root, entries, read, progress):
            channels[shape[0]] += 1
            if check_size and shape != (expected := expected or shape):
                raise DataError(f"image {root + name} has shape {shape}, but the first one {expected}")
            cut += _put(database, f"{number:08d}_{name}", datum)
            if database.count % 1000 == 0:
                log.info("Processed %d files.", database.count)
        if not database.count:
            raise DataError(f"none of the {len(entries)} images in {source} could be read")
    if cut:
        log.warning("%d keys were cut to the %d bytes that %s allows", cut, database.max_key, backend)
    _warn_of_channels(channels)
    if database.count % 1000:
        log.info("Processed %d files.", database.count)
    return database.count


def _readable(
    root: str, entries: list[tuple[str, int]], read: Callable[[str], tuple], progress: Callable[[int, int], object]
) -> Iterator[tuple[int, str, caffe_pb2.Datum, tuple[int, ...]]]:
    """Yield number, name, labelled Datum and shape of each image that can be read; log why others are left out.

    read: returns the Datum and the shape of the image at a path.  progress: called before each image, as of `convert`.
    """
    for number, (name, label) in enumerate(entries):
        progress(number, len(entries))
        try:
            with hinting(root, name):
                datum, shape = read(root + name)
        except DataError as error:
            log.warning("%s", error)
            continue
        datum.label = label
        yield number, name, datum, shape


def _shuffled(entries: list[tuple[str, int]], rng: Stream) -> list[tuple[str, int]]:
    log.info("Shuffling data")
    order = shuffled(draw_seed(rng), 0, len(entries))
    return [entries[i] for i in order]


def _put(database: DatabaseWriter, key: str, datum: caffe_pb2.Datum) -> bool:
    """Store a record, its key truncated to the length that the database allows; return whether it was truncated."""
    whole = key.encode("utf-8", "surrogateescape")
    database.put(whole[: database.max_key], datum.SerializeToString())
    return len(whole) > (database.max_key or len(whole))


def _warn_of_channels(channels: Counter[int]) -> None:
    """Log a warning if the images have different numbers of channels, as encoded files of colour and gray ones do."""
    if len(channels) > 1:
        counts = listed(f"{count} image(s) of {number} channel(s)" for number, count in sorted(channels.items()))
        log.warning(
            "the database has %s, but a batch and a mean need one number of channels: convert without --encoded, or "
            "with --gray; for batches, force_encoded_color in data_param does, too",
            counts,
        )


def _read(path: str, gray: bool, size: tuple[int, int], encoded: bool, encode_type: str):
    """Read one image as a Datum without label; return it and the shape of the image, (C, H, W)."""
    if encoded and not any(size):
        extension = os.path.splitext(path)[1].lower().lstrip(".")
        if not gray and encode_type.lower().lstrip(".") in ("", extension):
            content = read_bytes(path)
            shape = decode_image(content, None, path).shape  # raises DataError if the file cannot be decoded
            return caffe_pb2.Datum(data=content, encoded=True), shape
    image = read_image(path, not gray)
    if any(size):
        image = resize(image, *size)
    if not encoded:
        return array_to_datum(image), image.shape
    kind = encode_type or os.path.splitext(path)[1] or "png"
    return caffe_pb2.Datum(data=encode_image(image, kind), encoded=True), image.shape
