"""Batches from HDF5 files: a text file lists the files, each of which holds one dataset per top."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from minicaffe import saved
from minicaffe.data.reader import ALL, Share
from minicaffe.data.shuffle import shuffled
from minicaffe.errors import DataError, listed
from minicaffe.hdf5_file import Dataset, Hdf5File, opened
from minicaffe.text import read_names

log = logging.getLogger("minicaffe.data")


def read_file_list(source: str) -> list[str]:
    """Return the paths in a text file, one per line; DataError when it is missing, not text, or empty."""
    names = read_names(source, "HDF5 file list", hint="; a list has the path of an HDF5 file in each line")
    if not names:
        raise DataError(f"HDF5 file list {source} is empty")
    return names


def load_file(path: str, names: Sequence[str]) -> list[np.ndarray]:
    """Load the datasets `names` of an HDF5 file: arrays of any number type with the same number of rows (axis 0).

    DataError when the file is missing, truncated or not HDF5, or when a dataset is missing, is not an array of
    numbers, or has another number of rows.
    """
    with opened(path) as file:
        return [file.numbers(each) for each in _datasets(file, names)]


def count_rows(path: str, names: Sequence[str]) -> int:
    """Return the number of rows of the datasets `names`, without reading them; DataError as for `load_file`."""
    with opened(path) as file:
        return _datasets(file, names)[0].shape[0]


def first_row_shapes(source: str, names: Sequence[str]) -> list[tuple[int, ...]]:
    """Return the shape of one row of each dataset in the first listed file; DataError as for `load_file`."""
    with opened(read_file_list(source)[0]) as file:
        return [_dataset(file, name).shape[1:] for name in names]


def _datasets(file: Hdf5File, names: Sequence[str]) -> list[Dataset]:
    """Return the datasets of some names; DataError unless they have equally many rows, at least one."""
    datasets = [_dataset(file, name) for name in names]
    rows = datasets[0].shape[0]
    for each in datasets:
        if each.shape[0] != rows or not rows:
            raise DataError(
                f"datasets of HDF5 file {file.path} must have equally many rows, at least one: "
                f'"{names[0]}" has {rows}, "{each.name}" {each.shape[0]}'
            )
    return datasets


def _dataset(file: Hdf5File, name: str) -> Dataset:
    found = file.find(name)
    if not isinstance(found, Dataset):
        raise DataError(f'HDF5 file {file.path} has no dataset "{name}": it holds {listed(file.names()) or "none"}')
    file.check_numbers(found)
    if not found.shape:
        raise file.error(found, "must be an array of numbers, got one number")
    return found


class Hdf5Reader:
    """Endless reader of the rows of the listed files.

    source: text file with the paths.  names: one dataset per target.
    seed: of the shuffles of the files, in every round, and of the rows in each file; None (default): no shuffle.
    share: which rows it reads (default: all); solvers that share shuffled rows need one random seed.
    """

    def __init__(self, source: str, names: Sequence[str], seed: int | None = None, share: Share = ALL) -> None:
        self.share = share
        self.files, self.names = read_file_list(source), list(names)
        self._open = -1  # index of the file whose arrays are loaded; -1: none yet
        self._seed = seed
        self.seek({"seed": seed, "visit": 0, "row": 0})

    def seek(self, position: dict) -> None:
        """Restore a position returned by `position`, with its seed; whether rows are shuffled does not change.

        DataError when the file at that position has too few rows, SnapshotError for a value that is missing or out of
        range.
        """
        seed, visit, row = saved.seed(position), saved.whole(position, "visit"), saved.whole(position, "row")
        if self._seed is not None and seed is not None:
            self._seed = seed
        self._visit, self._row = visit, row
        self._load()
        if self._row >= len(self.arrays[0]):
            raise DataError(
                f"cannot go on from row {self._row} of HDF5 file {self.files[self._open]}: "
                f"it has only {len(self.arrays[0])} rows"
            )

    def position(self) -> dict:
        """Return the position as JSON-serializable dict: seed, number of files read before, row in the current file."""
        return {"seed": self._seed, "visit": self._visit, "row": self._row}

    @property
    def records(self) -> int | None:
        """The number of rows of the source; None for several files, of which only one is loaded."""
        return len(self.arrays[0]) if len(self.files) == 1 else None

    def row_shapes(self) -> list[tuple[int, ...]]:
        """Return the shape of one row of each dataset in the current file."""
        return [array.shape[1:] for array in self.arrays]

    def _load(self) -> None:
        """Load the file of the current visit, one pass over one file, and shuffle its rows."""
        count = len(self.files)
        round_, index = divmod(self._visit, count)
        # Of the seed's shuffles, even numbers are orders of files, odd numbers orders of rows.
        number = index if self._seed is None else int(shuffled(self._seed, 2 * round_, count)[index])
        if self._open != number:
            self.arrays = load_file(self.files[number], self.names)
            self._open = number
        rows = len(self.arrays[0])
        self._order = None if self._seed is None else shuffled(self._seed, 2 * self._visit + 1, rows)

    def read_into(self, targets: Sequence[np.ndarray]) -> None:
        """Fill the targets, (N, ...) each, with the next N rows of the share, from several files if necessary.

        DataError when the rows of a file have another shape than the targets.
        """
        filled, count = 0, len(targets[0])
        while filled < count:
            self._skip(self.share.rank)
            last = len(self.arrays[0]) - 1 - self._row
            take = min(count - filled, 1 + last // self.share.size)
            self._copy(take, [target[filled : filled + take] for target in targets])
            filled += take
            self._skip((take - 1) * self.share.size + 1 + self.share.after)

    def _copy(self, count: int, targets: Sequence[np.ndarray]) -> None:
        """Copy the next rows of the share, which are all in the open file."""
        rows = slice(self._row, self._row + count * self.share.size, self.share.size)
        for name, target, array in zip(self.names, targets, self.arrays, strict=True):
            if array.shape[1:] != target.shape[1:]:
                raise DataError(
                    f'dataset "{name}" of HDF5 file {self.files[self._open]} has rows of shape '
                    f"{array.shape[1:]}, expected {target.shape[1:]} as in the first file"
                )
            target[...] = array[rows if self._order is None else self._order[rows]]

    def _skip(self, count: int) -> None:
        """Go on by so many rows; after the last of a file the next file is opened."""
        self._row += count
        while self._row >= len(self.arrays[0]):
            self._row -= len(self.arrays[0])
            self._visit += 1
            if self._visit % len(self.files) == 0 and len(self.files) > 1:
                log.info("Looping around to first file.")
            self._load()
