"""MNIST: 60000 training and 10000 test images of handwritten digits, 28x28 grey.

LeCun, Cortes, Burges, "The MNIST database of handwritten digits", 1998.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from minicaffe import limits
from minicaffe.data.datasets.download import download
from minicaffe.data.datasets.records import write_data_set, write_database
from minicaffe.errors import DataError
from minicaffe.files import open_regular

NAME, ABOUT = "mnist", "MNIST, the real data set."
URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FILES = {  # (images, labels) by part; MD5 holds the checksums of the .gz files
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
_PAIRS = 1000  # pairs that are in memory at a time
_MAGIC = {3: 0x803, 1: 0x801}  # magic number of idx files of unsigned bytes, by number of axes


def prepare(dest: str = "data/mnist", source: str | None = None, backend: str = "lmdb") -> None:
    """Write mnist_train_<backend> and mnist_test_<backend> into folder `dest`.

    source: the folder with the four idx files, plain or .gz; None (default): download them into `dest`.
    backend: "lmdb" (default) or "leveldb".
    DataError when a file or the download cannot be read.
    """
    os.makedirs(dest, exist_ok=True)
    if source is None:
        source = dest
        for name, md5 in MD5.items():
            download(f"{URL}{name}.gz", os.path.join(dest, f"{name}.gz"), md5)
    if not os.path.isdir(source):
        raise DataError(f"MNIST source {source} must be a folder with the four idx files")
    parts = {}
    for part, (images, labels) in FILES.items():
        parts[part] = read_pair(os.path.join(source, images), os.path.join(source, labels))
    batches = {part: ([pair], len(pair[1])) for part, pair in parts.items()}
    write_data_set(dest, backend, batches, NAME, digits=8, classes=list("0123456789"), about=ABOUT, with_mean=False)


def convert(images_path: str, labels_path: str, path: str, backend: str) -> None:
    """Write one pair of idx files to the database `path`; backend: "lmdb" or "leveldb".  DataError as for `read_pair`.

    Keys are numbers from 0 on, with eight digits.
    """
    images, labels = read_pair(images_path, labels_path)
    write_database(path, backend, [(images, labels)], len(labels), digits=8)


def convert_pairs(images_path: str, labels_path: str, path: str, backend: str, seed: int) -> None:
    """Write pairs of images to the database `path`, for a siamese net: as many as there are images, drawn at random.

    A record has two channels, one for each image, and label 1 if both have the same class, else 0; keys as for
    `convert`.
    backend: "lmdb" or "leveldb".  seed: of the random pairs.  DataError as for `read_pair`.
    """
    images, labels = read_pair(images_path, labels_path)
    count, rng = len(labels), np.random.Generator(np.random.Philox(seed))

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, count, _PAIRS):
            first, second = rng.integers(0, count, (2, min(_PAIRS, count - start)))
            yield np.concatenate([images[first], images[second]], axis=1), labels[first] == labels[second]

    write_database(path, backend, batches(), count, digits=8)


def read_pair(images_path: str, labels_path: str) -> tuple[np.ndarray, np.ndarray]:
    """Read images (N, 1, H, W) and labels (N,), uint8, from two idx files.

    DataError when a file cannot be read, or when the numbers of images and labels differ.
    """
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise DataError(f"{images_path} holds {len(images)} images, but {labels_path} {len(labels)} labels")
    return images[:, None], labels


def read_idx(path: str, axes: int) -> np.ndarray:
    """Read the array, uint8, in an idx file with `axes` axes, plain or gzipped (`path` or `path`.gz).

    DataError when the file cannot be read or has another format.
    """
    try:
        with open_regular(path if os.path.exists(path) else f"{path}.gz") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            stored = file.seek(0, os.SEEK_END)
            file.seek(0)
            return _parse_idx(gzip.GzipFile(fileobj=file) if zipped else file, stored, path, axes)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _parse_idx(file: BinaryIO | gzip.GzipFile, stored: int, path: str, axes: int) -> np.ndarray:
    """Parse the content of an idx file, which takes up `stored` bytes; no more is read than its header announces."""
    head = file.read(4 + 4 * axes)
    magic = int.from_bytes(head[:4], "big")
    if len(head) < 4 + 4 * axes or magic != _MAGIC[axes]:
        raise DataError(
            f"{path} has magic number {magic:#x}, expected {_MAGIC[axes]:#x} for an idx file of {axes} axes"
        )
    shape = struct.unpack_from(f">{axes}I", head, 4)
    count, expected = math.prod(shape), "x".join(map(str, shape))
    if count > limits.MAX_COUNT or limits.expands_too_far(count, stored):
        raise DataError(f"{path}, {stored} bytes, cannot hold {expected} values")
    data = file.read(count + 1 if isinstance(file, gzip.GzipFile) else min(count, stored) + 1)
    if len(data) != count:
        raise DataError(f"{path} holds {'more' if len(data) > count else len(data)} values, expected {expected}")
    return np.frombuffer(data, np.uint8).reshape(shape)
