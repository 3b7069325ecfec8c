"""Batches from HDF5 files: a text file lists the files, each of which holds one dataset per top."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import h5py
import numpy as np

from minicaffe.data.reader import ALL, Share
from minicaffe.data.shuffle import shuffled
from minicaffe.errors import DataError
from minicaffe.text import read_names

log = logging.getLogger("minicaffe.data")


def read_file_list(source: str) -> list[str]:
    """Return the paths in a text file, one per line; DataError when it is missing, not text, or empty."""
    names = read_names(source, "HDF5 file list")
    if not names:
        raise DataError(f"HDF5 file list {source} is empty")
    return names


def load_file(path: str, names: Sequence[str]) -> list[np.ndarray]:
    """Load the datasets `names` of an HDF5 file: arrays of any number type with the same number of rows (axis 0).

    DataError when the file is missing, truncated or not HDF5, or when a dataset is missing, is not an array of
    numbers, or has another number of rows.
    """
    try:
        with h5py.File(path, "r") as file:
            for name in names:
                if not isinstance(file.get(name), h5py.Dataset):
                    raise DataError(f'HDF5 file {path} has no dataset "{name}": it holds {", ".join(file) or "none"}')
            arrays = [file[name][()] for name in names]
    except OSError as error:
        what = "does not exist" if not os.path.exists(path) else f"cannot be read: {error}"
        raise DataError(f"HDF5 file {path} {what}") from error
    for name, array in zip(names, arrays, strict=True):
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            raise DataError(f'dataset "{name}" of HDF5 file {path} must be an array of numbers')
        if len(array) != len(arrays[0]) or not len(array):
            raise DataError(
                f"datasets of HDF5 file {path} must have equally many rows, at least one: "
                f'"{names[0]}" has {len(arrays[0])}, "{name}" {len(array)}'
            )
    return arrays


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

        DataError when the file at that position has too few rows.
        """
        if self._seed is not None and position["seed"] is not None:
            self._seed = position["seed"]
        self._visit, self._row = position["visit"], position["row"]
        self._load()
        if self._row >= len(self.arrays[0]):
            raise DataError(
                f"cannot go on from row {self._row} of HDF5 file {self.files[self._open]}: "
                f"it has only {len(self.arrays[0])} rows"
            )

    def position(self) -> dict:
        """Return the position as JSON-serializable dict: seed, number of files read before, row in the current file."""
        return {"seed": self._seed, "visit": self._visit, "row": self._row}

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
            most = count - filled if self.share.size == 1 else 1
            take = min(most, len(self.arrays[0]) - self._row)
            self._copy(take, [target[filled : filled + take] for target in targets])
            filled += take
            self._skip(take + self.share.after)

    def _copy(self, count: int, targets: Sequence[np.ndarray]) -> None:
        """Copy the next rows, which are all in the open file."""
        rows = slice(self._row, self._row + count)
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
