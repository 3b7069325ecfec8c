"""A copy of an image database with a border around each image, for training with random crops of padded images.

`transform_param` crops but does not pad, so nets trained with 4 pixels of padding and random crops (He et al., 2015,
section 4.2) read such a copy.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minicaffe.data.datasets.records import replacing_database, write_database
from minicaffe.data.datum import DatumDecoder
from minicaffe.data.db import Database, open_db
from minicaffe.data.image_file import check_pixels
from minicaffe.errors import DataError


def pad_database(source: str, dest: str, pad: int, backend: str = "lmdb") -> tuple[int, ...]:
    """Write the images of the database `source` to the database `dest`, with `pad` pixels more on each side.

    The border has the rounded mean colour of all images, so it is 0 after subtraction of that colour as mean_value.
    Keys are numbers from 0 on, with as many digits as in `source`.  An older database `dest` is replaced.
    Returns the mean colour, one int per channel.
    DataError for a border of less than 1 pixel or one that makes an image too large, and when a database cannot be
    read or written.
    """
    if pad < 1:
        raise DataError(f"the border must be at least 1 pixel wide, got {pad}")
    with open_db(source, backend) as database:
        means: list[np.ndarray] = []
        digits = 0
        for key, _, image in _images(database, pad):
            if means and means[0].shape != image.shape[:1]:
                raise DataError(f"the images of {source} have {means[0].size} and {len(image)} channels")
            means.append(image.mean((1, 2)))
            digits = digits or len(key)
        if not means:
            raise DataError(f"database {source} holds no records")
        color = np.rint(np.mean(means, axis=0)).astype(np.uint8)

        def batches():
            for _, label, image in _images(database, pad):
                channels, height, width = image.shape
                framed = np.empty((1, channels, height + 2 * pad, width + 2 * pad), np.uint8)
                framed[:] = color[:, None, None]
                framed[0, :, pad:-pad, pad:-pad] = image
                yield framed, [label]

        with replacing_database(dest) as fresh:
            write_database(fresh, backend, batches(), len(database), digits)
    return tuple(int(value) for value in color)


def _images(database: Database, pad: int) -> Iterator[tuple[bytes, int, np.ndarray]]:
    """Yield key, label and uint8 image (C, H, W) of each record; DataError for one that would become too large."""
    decoder = DatumDecoder(database.source)
    for key, value in database.items():
        image, label = decoder.decode(key, value)
        check_pixels(image.shape[2] + 2 * pad, image.shape[1] + 2 * pad, f"a padded image of {database.source}")
        yield key, label, image.astype(np.uint8)
