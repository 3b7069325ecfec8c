"""Whitenings in HDF5 files, applied to images."""

import tempfile
from pathlib import Path

import numpy as np

from fuzz.kind import Case, Kind
from fuzz.mutate_hdf5 import change_hdf5
from helpers.readers import write_images
from minicaffe.data.db import open_db
from minicaffe.data.whitening import Method
from minicaffe.data.whitening_database import compute
from minicaffe.data.whitening_file import read_whitening, write_whitening

IMAGES = np.random.default_rng(0).integers(0, 256, (200, 3, 4, 5), np.uint8)
METHODS = (
    Method("zca", patch=3),
    Method("pca", components=3, per_channel=True),
    Method("pca", patch=2, stride=2),
    Method("std", eps=0.1),
)


def _examples():
    with tempfile.TemporaryDirectory() as folder:
        with open_db(write_images(f"{folder}/db", IMAGES)) as database:
            for i, method in enumerate(METHODS):
                write_whitening(f"{folder}/{i}.h5", compute(database, method))
        return [Path(folder, f"{i}.h5").read_bytes() for i in range(len(METHODS))]


def _apply():
    read_whitening("w.h5").transform(IMAGES[:3])


def _case(content):
    return Case({"w.h5": content}, [_apply])


whitening = Kind("whitening", _examples, _case, change_hdf5)
