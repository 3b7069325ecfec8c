"""A copy of an image database with a border around each image, for training with random crops of padded images.

`transform_param` crops but does not pad, so nets trained with 4 pixels of padding and random crops (He et al., 2015,
section 4.2) read such a copy.
"""

from __future__ import annotations

import numpy as np

from minicaffe.data.datasets.records import replacing_database, write_database
from minicaffe.data.datum import DatumDecoder
from minicaffe.data.db import open_db
from minicaffe.errors import DataError


def pad_database(source: str, dest: str, pad: int, backend: str = "lmdb") -> tuple[int, ...]:
    """Write the images of the database `source` to the database `dest`, with `pad` pixels more on each side.

    The border has the rounded mean colour of all images, so it is 0 after subtraction of that colour as mean_value.
    Keys are numbers from 0 on, with as many digits as in `source`.  An older database `dest` is replaced.
    Returns the mean colour, one int per channel.
    DataError for a border of less than 1 pixel, and when a database cannot be read or written.
    """
    if pad < 1:
        raise DataError(f"the border must be at least 1 pixel wide, got {pad}")
    decoder = DatumDecoder(source)
    with open_db(source, backend) as database:
        means = [decoder.decode(*item)[0].astype(np.uint8).mean((1, 2)) for item in database.items()]
        if len({len(mean) for mean in means}) != 1:
            raise DataError(f"database {source} has no images, or images with different numbers of channels")
        color = np.rint(np.mean(means, axis=0)).astype(np.uint8)
        digits = len(next(iter(database.items()))[0])

        def batches():
            for item in database.items():
                image, label = decoder.decode(*item)
                channels, height, width = image.shape
                framed = np.empty((1, channels, height + 2 * pad, width + 2 * pad), np.uint8)
                framed[:] = color[:, None, None]
                framed[0, :, pad:-pad, pad:-pad] = image
                yield framed, [label]

        with replacing_database(dest) as fresh:
            write_database(fresh, backend, batches(), len(database), digits)
    return tuple(int(value) for value in color)
