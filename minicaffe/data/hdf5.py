"""HDF5 files as sources of batches: a text file lists them, each holds one dataset per top."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import h5py
import numpy as np

from minicaffe.data.shuffle import shuffled
from minicaffe.errors import DataError
from minicaffe.text import read_names

log = logging.getLogger("minicaffe.data")


def read_file_list(source: str) -> list[str]:
    """The paths in a text file, one per line; `DataError` when it is missing, no text, or lists nothing."""
    names = read_names(source, "HDF5 file list")
    if not names:
        raise DataError(f"HDF5 file list {source} is empty")
    return names


def load_file(path: str, names: Sequence[str]) -> list[np.ndarray]:
    """The datasets `names` of an HDF5 file: any number type, at least one axis, equally many rows.

    Raises `DataError` when the file is missing, truncated or no HDF5, when a dataset is missing (naming those there
    are), is no array of numbers, or has another number of rows.
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
    """Rows of the listed files, round and round; with a seed, files and the rows of each are shuffled every time.

    Position: which file of which round is being read, and from which row.
    """

    def __init__(self, source: str, names: Sequence[str], seed: int | None = None) -> None:
        self.files, self.names = read_file_list(source), list(names)
        self._open = -1  # the number of the file whose arrays are loaded; -1 before the first
        self._seed = seed
        self.seek({"seed": seed, "visit": 0, "row": 0})

    def seek(self, position: dict) -> None:
        """Go to a position, with the orders of its seed; whether there is a shuffle remains as it is.

        Raises `DataError` when the file that is read there has fewer rows than that.
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
        return {"seed": self._seed, "visit": self._visit, "row": self._row}

    def row_shapes(self) -> list[tuple[int, ...]]:
        """The shape of one row of each dataset of the file being read."""
        return [array.shape[1:] for array in self.arrays]

    def _load(self) -> None:
        """Open the file of this visit (a visit is one pass over one file) and shuffle its rows."""
        count = len(self.files)
        round_, index = divmod(self._visit, count)
        # Orders of files take the even numbers of the seed's shuffles, orders of rows the odd ones.
        number = index if self._seed is None else int(shuffled(self._seed, 2 * round_, count)[index])
        if self._open != number:
            self.arrays = load_file(self.files[number], self.names)
            self._open = number
        rows = len(self.arrays[0])
        self._order = None if self._seed is None else shuffled(self._seed, 2 * self._visit + 1, rows)

    def read_into(self, targets: Sequence[np.ndarray]) -> None:
        """Fill the targets, (N, ...) each, with the next N rows, over the ends of files if need be."""
        filled, count = 0, len(targets[0])
        while filled < count:
            take = min(count - filled, len(self.arrays[0]) - self._row)
            rows = slice(self._row, self._row + take)
            for name, target, array in zip(self.names, targets, self.arrays, strict=True):
                if array.shape[1:] != target.shape[1:]:
                    raise DataError(
                        f'dataset "{name}" of HDF5 file {self.files[self._open]} has rows of shape '
                        f"{array.shape[1:]}, expected {target.shape[1:]} as in the first file"
                    )
                target[filled : filled + take] = array[rows if self._order is None else self._order[rows]]
            filled += take
            self._row += take
            if self._row == len(self.arrays[0]):
                self._visit, self._row = self._visit + 1, 0
                if self._visit % len(self.files) == 0 and len(self.files) > 1:
                    log.info("Looping around to first file.")
                self._load()
