"""CIFAR-10: 50000 training and 10000 test images of ten classes, 32x32, RGB planes.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Container

import numpy as np

from minicaffe.data.datasets.download import download
from minicaffe.data.datasets.pickled import read_arrays
from minicaffe.data.datasets.records import write_data_set
from minicaffe.errors import DataError

NAME, ABOUT = "cifar10", "CIFAR-10, the real data set."
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_FILES = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST_FILES = ("test_batch",)
_RECORD = 1 + 3 * 32 * 32


def prepare(dest: str = "data/cifar10", source: str | None = None, backend: str = "lmdb") -> None:
    """Write cifar10_train_<backend>, cifar10_test_<backend> and mean.binaryproto into folder `dest`.

    source: the official binary or python version, as .tar.gz or unpacked; None (default): download it into `dest`.
    backend: "lmdb" (default) or "leveldb".
    DataError when the source or the download cannot be read.
    """
    os.makedirs(dest, exist_ok=True)
    if source is None:
        source = os.path.join(dest, os.path.basename(URL))
        download(URL, source, MD5)
    convert(source, dest, backend, with_mean=True)


def convert(source: str, dest: str, backend: str, with_mean: bool = False) -> None:
    """Write the two databases with Caffe's keys: five digits, in the order of the batch files.

    Arguments and errors as for `prepare`; with_mean: also write mean.binaryproto (default False).
    """
    read = open_source(source)
    parts = {}
    for name, files in (("train", TRAIN_FILES), ("test", TEST_FILES)):
        batches = [read(file) for file in files]
        parts[name] = (batches, sum(len(labels) for _, labels in batches))
    write_data_set(dest, backend, parts, NAME, digits=5, classes=CLASSES, about=ABOUT, with_mean=with_mean)


def open_source(source: str) -> Callable[[str], tuple[np.ndarray, np.ndarray]]:
    """Return a function that reads a batch by name ("data_batch_1" .. "test_batch").

    That function returns images (N, 3, 32, 32) uint8 and labels (N,).  DataError when the source or a batch cannot be
    read.
    """
    if os.path.isdir(source):
        names, load = _open_folder(source)
    elif os.path.isfile(source):
        names, load = _open_archive(source)
    else:
        raise DataError(f"CIFAR-10 source {source} does not exist")

    def read(batch: str) -> tuple[np.ndarray, np.ndarray]:
        if f"{batch}.bin" in names:
            return parse_binary(load(f"{batch}.bin"), f"{batch}.bin in {source}")
        if batch in names:
            return parse_pickle(load(batch), f"{batch} in {source}")
        raise DataError(f"{source} holds neither {batch}.bin (binary version) nor {batch} (python version) of CIFAR-10")

    return read


def _open_folder(source: str) -> tuple[Container[str], Callable[[str], bytes]]:
    """Return the names of all files below a folder, and a function that reads one of them."""
    paths = {name: os.path.join(folder, name) for folder, _, names in os.walk(source) for name in names}

    def load(name: str) -> bytes:
        with open(paths[name], "rb") as file:
            return file.read()

    return paths, load


def _open_archive(source: str) -> tuple[Container[str], Callable[[str], bytes]]:
    """Return the names of all files in a tar archive, and a function that returns the content of one of them."""
    content = {}
    try:
        with tarfile.open(source) as tar:
            for member in tar:
                if member.isfile() and (file := tar.extractfile(member)):
                    content[os.path.basename(member.name)] = file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(":")  # tarfile appends one line per compression tried
        raise DataError(f"cannot read {source} as a tar archive: {reason}") from error
    return content, content.__getitem__


def parse_binary(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Parse the binary version: records of one label byte and 3072 pixel bytes; `name` is for error messages."""
    if not data or len(data) % _RECORD:
        raise DataError(f"{name} has {len(data)} bytes, expected a multiple of {_RECORD}")
    records = np.frombuffer(data, np.uint8).reshape(-1, _RECORD)
    return _checked(records[:, 1:], records[:, 0], name)


def parse_pickle(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Parse the python version: a pickled dictionary of `data` (N, 3072) and `labels`."""
    try:
        batch = read_arrays(data)
        return _checked(batch[b"data"].astype(np.uint8), batch[b"labels"], name)
    except (KeyError, ValueError) as error:
        raise DataError(f"{name} is no batch of CIFAR-10's python version: {error}") from error


def _checked(pixels: np.ndarray, labels: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    if pixels.size != labels.size * (_RECORD - 1):
        raise DataError(
            f"{name} holds {pixels.size} pixel values and {labels.size} labels, expected 3072 for each label"
        )
    outside = labels[(labels < 0) | (labels > 9)]
    if outside.size:
        raise DataError(f"{name} holds label {outside.max()}, expected 0 to 9: is it CIFAR-10?")
    return pixels.reshape(-1, 3, 32, 32), labels
