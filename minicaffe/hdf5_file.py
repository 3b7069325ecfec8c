"""HDF5 files: built in memory and written as bytes; read in a child process.

The HDF5 library ends the process when a disk is full, and when a damaged file makes it write beyond its buffers.  So
files are built in memory, and a file is read by a forked child, whose memory and processor time are limited; a child
that fails is an error of one sentence.  On systems without `os.fork` (Windows) the file is read in the process itself.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import h5py
import numpy as np

from minicaffe import hdf5_child, limits
from minicaffe.errors import DataError, MinicaffeError
from minicaffe.files import open_regular
from minicaffe.hdf5_contents import Problem


def content(fill: Callable[[h5py.File], None]) -> memoryview:
    """Return the bytes of an HDF5 file, of the earliest format, whose groups and datasets `fill` creates."""
    memory = io.BytesIO()
    with h5py.File(memory, "w", libver="earliest") as file:
        fill(file)
    return memory.getbuffer()


def append(path: str, change: Callable[[h5py.File], None]) -> None:
    """Let `change` extend datasets of an HDF5 file; OSError if the file cannot be written, for example on a full disk.

    After such an error the file may be damaged.
    """
    with _Written(path, "r+b") as written:
        with h5py.File(written, "r+") as file:
            change(file)
        if written.error:
            raise written.error


class _Written(io.FileIO):
    """A file to which the HDF5 library writes without ever seeing an error, because it would end the process.

    error: the first error, or Ctrl-C.  After it nothing more is written.
    """

    error: BaseException | None = None

    def write(self, data) -> int:
        """Write all bytes, or none after an error; return their number."""
        rest = memoryview(data)
        while rest and self.error is None:
            try:
                rest = rest[super().write(rest) :]
            except (OSError, KeyboardInterrupt) as error:
                self.error = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Change the size of the file."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


@contextlib.contextmanager
def opened(path: str | os.PathLike, kind: type[MinicaffeError] = DataError) -> Iterator[Hdf5File]:
    """Open an HDF5 file for reading, until the end of the `with` block.

    kind: the exception raised for a file that is missing, no regular file, damaged, or not HDF5.
    """
    path = os.fspath(path)
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise kind(f"HDF5 file {path} does not exist") from None
    except OSError as error:
        raise kind(f"HDF5 file {path} cannot be read: {error.strerror}") from None
    try:
        with hdf5_child.reader(path, size) as reader:
            yield Hdf5File(path, size, kind, reader)
    except Problem as problem:
        raise kind(f"HDF5 file {path} cannot be read: {short(str(problem))}") from None


@dataclass(frozen=True)
class Dataset:
    """The name, shape and type of a dataset."""

    name: str
    shape: tuple[int, ...]  #: () for a single value
    dtype: np.dtype
    problem: str = ""  #: why its values cannot be read, as the end of a sentence; "" if they can

    @property
    def count(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


class Hdf5File:
    """An open HDF5 file.  Links to other files are not followed, and virtual datasets are not read."""

    def __init__(self, path: str, size: int, kind: type[MinicaffeError], reader) -> None:
        self.path, self._size, self._kind, self._reader = path, size, kind, reader

    def names(self) -> list[str]:
        """Return the names in the root of the file, for messages."""
        return [short(name) for name in self._reader.call("names")]

    def find(self, name: str) -> Dataset | str:
        """Return the dataset of a name; "group" for a group, "" if there is nothing of that name."""
        return _entry(name, self._reader.call("find", name))

    def members(self, name: str) -> dict[str, Dataset | str]:
        """Return {name: dataset, or "group"} of what is in a group."""
        return {key: _entry(f"{name}/{key}", each) for key, each in self._reader.call("members", name).items()}

    def attribute(self, name: str) -> str:
        """Return a text that is an attribute of the root; "" if there is none."""
        return self._reader.call("attribute", name)

    def groups(self, name: str) -> dict[str, dict[str, Dataset | str]]:
        """Return {path: {name: dataset, or "group"}} of all groups inside a group, each once, in the order of names."""
        found = self._reader.call("groups", name)
        return {
            path: {key: _entry(f"{name}/{path}/{key}", each) for key, each in members.items()}
            for path, members in found.items()
        }

    def check_numbers(self, dataset: Dataset) -> None:
        """Raise the file's kind of error unless the dataset contains numbers that can be read."""
        if dataset.problem:
            raise self.error(dataset, dataset.problem)
        if dataset.dtype.kind not in "fiub":
            raise self.error(dataset, f"must be an array of numbers, got {_words(dataset.dtype)}")
        size = dataset.count * dataset.dtype.itemsize
        if limits.expands_too_far(size, self._size):
            raise self.error(
                dataset,
                f"has {size} bytes of values in a file of {self._size} bytes: more than the environment variable "
                "MINICAFFE_MAX_EXPANDED allows",
            )

    def numbers(self, dataset: Dataset) -> np.ndarray:
        """Return the values, in their own type; errors as for `check_numbers`, which is called first."""
        self.check_numbers(dataset)
        values = np.empty(dataset.shape, dataset.dtype)
        self._reader.read_into(dataset.name, values)
        return values

    def text(self, dataset: Dataset) -> str:
        """Return the value of a dataset with one string, without null characters at its end."""
        if dataset.problem or dataset.dtype.kind not in "SO" or dataset.count != 1:
            raise self.error(dataset, dataset.problem or "must be a string")
        return self._reader.call("text", dataset.name)

    def error(self, dataset: Dataset, text: str) -> MinicaffeError:
        """Return an exception of the file's kind: the dataset and the file, then the text."""
        return self._kind(f'dataset "{short(dataset.name)}" of HDF5 file {self.path} {text}')


def short(text: str) -> str:
    """Return a text from a file in a form that can be part of a sentence: on one line, of at most 300 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:300] + "..."


def _entry(name: str, found) -> Dataset | str:
    if isinstance(found, str):
        return found
    shape, dtype, problem = found
    return Dataset(name, tuple(shape), np.dtype(dtype), problem)


def _words(dtype: np.dtype) -> str:
    return {"S": "text", "O": "text", "V": "records"}.get(dtype.kind, f"values of type {dtype}")
