"""What all data sets share: writing labelled images as a database of Datums, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from minicaffe.data.datum import array_to_datum
from minicaffe.data.db import open_db
from minicaffe.data.mean import compute_mean, write_mean
from minicaffe.data.progress import Progress

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
    """Write <name>_<part>_<backend> for each part ("train", "test") into folder `dest`, replacing older ones.

    parts: batches and number of images.  With them go classes.txt, about.txt, which says where the images come from,
    and mean.binaryproto, the mean of the part "train".
    """
    os.makedirs(dest, exist_ok=True)
    for part, (batches, total) in parts.items():
        path = os.path.join(dest, f"{name}_{part}_{backend}")
        fresh = f"{path}.new"
        remove_database(fresh)
        write_database(fresh, backend, batches, total, digits)
        if part == "train" and with_mean:
            write_mean_of(fresh, backend, os.path.join(dest, "mean.binaryproto"))
        remove_database(path)
        os.rename(fresh, path)
    for file_name, text in ((_CLASSES, "\n".join(classes)), (_ABOUT, about)):
        with open(os.path.join(dest, file_name), "w") as file:
            file.write(text + "\n")


def describe(dest: str) -> str:
    """What about.txt says of the data set in folder `dest`: one sentence, or "" when there is none."""
    path = os.path.join(dest, _ABOUT)
    if not os.path.isfile(path):
        return ""
    with open(path) as file:
        return file.read().strip()


def write_database(path: str, backend: str, batches: Batches, total: int, digits: int) -> None:
    """Write images and labels under keys that count from 0, `digits` wide."""
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
    """Compute the mean image of a database and write it."""
    with open_db(path, backend) as database, Progress(os.path.basename(mean_file), len(database)) as progress:
        write_mean(mean_file, compute_mean(database, progress))


def remove_database(path: str) -> None:
    """Make room for a new database: only a folder that looks like one is removed."""
    if any(os.path.exists(os.path.join(path, name)) for name in ("data.mdb", "CURRENT")):
        shutil.rmtree(path)
