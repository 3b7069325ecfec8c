"""A copy of an image database with a border around each image, for training with random crops of padded images.

`transform_param` crops but does not pad, so nets trained with 4 pixels of padding and random crops (He et al., 2015,
section 4.2) read such a copy.
"""

from __future__ import annotations

import numpy as np

from minicaffe.data.datasets.records import replacing_database, write_database
from minicaffe.data.datum import datum_to_array
from minicaffe.data.db import open_db
from minicaffe.errors import DataError
from minicaffe.proto import caffe_pb2


def pad_database(source: str, dest: str, pad: int, backend: str = "lmdb") -> tuple[int, ...]:
    """Write the images of the database `source` to the database `dest`, with `pad` pixels more on each side.

    The border has the rounded mean colour of all images, so it is 0 after subtraction of that colour as mean_value.
    Keys are numbers from 0 on, with as many digits as in `source`.  An older database `dest` is replaced.
    Returns the mean colour, one int per channel.
    DataError for a border of less than 1 pixel, and when a database cannot be read or written.
    """
    if pad < 1:
        raise DataError(f"the border must be at least 1 pixel wide, got {pad}")
    with open_db(source, backend) as database:
        means = [_picture(value)[0].mean((1, 2)) for _, value in database.items()]
        color = np.rint(np.mean(means, axis=0)).astype(np.uint8)
        digits = len(next(iter(database.items()))[0])

        def batches():
            for _, value in database.items():
                image, label = _picture(value)
                channels, height, width = image.shape
                framed = np.empty((1, channels, height + 2 * pad, width + 2 * pad), np.uint8)
                framed[:] = color[:, None, None]
                framed[0, :, pad:-pad, pad:-pad] = image
                yield framed, [label]

        with replacing_database(dest) as fresh:
            write_database(fresh, backend, batches(), len(database), digits)
    return tuple(int(value) for value in color)


def _picture(value: bytes | memoryview) -> tuple[np.ndarray, int]:
    datum = caffe_pb2.Datum.FromString(bytes(value))
    return datum_to_array(datum).astype(np.uint8), datum.label
