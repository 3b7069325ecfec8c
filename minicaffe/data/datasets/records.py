"""What all data sets share: writing labelled images as a database of Datums, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable

import numpy as np

from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import open_db
from minicaffe.data.mean import compute_mean, write_mean
from minicaffe.data.progress import Progress

Batches = Iterable[tuple[np.ndarray, np.ndarray]]  # images (N, C, H, W) uint8, labels (N,)


def write_database(path: str, backend: str, batches: Batches, total: int, digits: int) -> None:
    """Write images and labels under keys that count from 0, `digits` wide."""
    with open_db(path, backend, "w") as database, Progress(os.path.basename(path), total) as progress:
        for images, labels in batches:
            for image, label in zip(images, labels, strict=True):
                datum = array_to_datum(image, int(label))
                database.put(f"{database.count:0{digits}d}", datum.SerializeToString())
                progress(database.count)


def write_mean_of(path: str, backend: str, mean_file: str) -> None:
    """Compute the mean image of a database and write it."""
    with open_db(path, backend) as database, Progress(os.path.basename(mean_file), len(database)) as progress:
        write_mean(mean_file, compute_mean(database, progress))


def remove_database(path: str) -> None:
    """Make room for a new database: only a folder that looks like one is removed."""
    if any(os.path.exists(os.path.join(path, name)) for name in ("data.mdb", "CURRENT")):
        shutil.rmtree(path)
