"""Functions shared by all data sets: write labelled images to databases of Datums, atomically."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import backends_in, open_db
from minicaffe.data.mean import compute_mean, write_mean
from minicaffe.files import write_atomically
from minicaffe.progress.counting import Progress
from minicaffe.text import read_text

Batches = Iterable[tuple[np.ndarray, np.ndarray]]  # images (N, C, H, W) uint8, labels (N,)


_ABOUT, _CLASSES = "about.txt", "classes.txt"


def write_data_set(
    dest: str,
    backend: str,
    parts: Mapping[str, tuple[Batches, int]],
    name: str,
    digits: int,
    classes: Sequence[str],
    about: str,
    with_mean: bool = True,
) -> None:
    """Write the database <name>_<part>_<backend> for each part ("train", "test") into folder `dest`.

    Older databases of these names are replaced.
    backend: "lmdb" or "leveldb".  parts: (batches, number of images) by part.  digits: length of the keys.
    classes: class names, written to classes.txt.  about: the origin of the images, written to about.txt.
    with_mean: also write mean.binaryproto, the mean image of the part "train" (default True).
    DataError when a database or the mean file cannot be written.
    """
    os.makedirs(dest, exist_ok=True)
    for part, (batches, total) in parts.items():
        with replacing_database(os.path.join(dest, f"{name}_{part}_{backend}")) as fresh:
            write_database(fresh, backend, batches, total, digits)
            if part == "train" and with_mean:
                write_mean_of(fresh, backend, os.path.join(dest, "mean.binaryproto"))
    write_about(dest, classes, about)


def write_about(dest: str, classes: Sequence[str], about: str) -> None:
    """Write the class names to classes.txt and the origin of the images to about.txt, both in folder `dest`."""
    for file_name, text in ((_CLASSES, "\n".join(classes)), (_ABOUT, about)):
        write_atomically(os.path.join(dest, file_name), text + "\n")


def describe(dest: str) -> str:
    """Return the content of about.txt in folder `dest`, one sentence; "" if there is no such file."""
    path = os.path.join(dest, _ABOUT)
    if not os.path.isfile(path):
        return ""
    return read_text(path, "description", errors="replace").strip()


def write_database(path: str, backend: str, batches: Batches, total: int, digits: int) -> None:
    """Write images and labels to the new database `path`; keys are numbers from 0 on, with `digits` digits.

    total: number of images, for the progress display.
    """
    with (
        open_db(path, backend, "w") as database,
        Progress(os.path.basename(path.removesuffix(".new")), total) as progress,
    ):
        for images, labels in batches:
            for image, label in zip(images, labels, strict=True):
                datum = array_to_datum(image, int(label))
                database.put(f"{database.count:0{digits}d}", datum.SerializeToString())
                progress(database.count)


def write_mean_of(path: str, backend: str, mean_file: str) -> None:
    """Compute the mean image of a database and write it to `mean_file`."""
    with open_db(path, backend) as database, Progress(os.path.basename(mean_file), len(database)) as progress:
        write_mean(mean_file, compute_mean(database, progress))


@contextlib.contextmanager
def replacing_database(path: str) -> Iterator[str]:
    """Yield the path for a new database; at the end it replaces the database `path`, after an exception it is removed.

    An older database at `path` stays until the new one is complete.
    """
    fresh = f"{path}.new"
    remove_database(fresh)
    try:
        yield fresh
        remove_database(path)
        os.rename(fresh, path)
    finally:
        remove_database(fresh)


def remove_database(path: str) -> None:
    """Remove the database `path`; a no-op if the folder is not an LMDB or LevelDB."""
    if backends_in(path):
        shutil.rmtree(path)
