"""A whitening in an HDF5 file: the datasets mean, eigenvalues and matrix, and the options as datasets of one value."""

from __future__ import annotations

import math
import os

import h5py
import numpy as np

from minicaffe import hdf5_file, limits
from minicaffe.data.whitening import Method, Whitening
from minicaffe.errors import DataError, UsageError
from minicaffe.files import write_atomically

_ARRAYS = ("mean", "eigenvalues", "matrix")


def write_whitening(path: str | os.PathLike, whitening: Whitening) -> None:
    """Write a whitening, atomically; DataError when the file cannot be written.

    Datasets as in `Whitening` and `Method`; `patch` is 0 for whole images, `components` is 0 for all.
    """
    method = whitening.method

    def fill(file: h5py.File) -> None:
        for name in _ARRAYS:
            file[name] = getattr(whitening, name)
        file["image_shape"] = np.array(whitening.image_shape, np.int64)
        file["kind"] = method.kind
        options = {"count": whitening.count, "patch": method.patch or 0, "components": method.components or 0}
        for name, value in {**options, "stride": method.stride, "per_channel": int(method.per_channel)}.items():
            file[name] = np.int64(value)
        file["eps"] = np.float64(method.eps)

    write_atomically(path, hdf5_file.content(fill))


def read_whitening(path: str | os.PathLike) -> Whitening:
    """Read a whitening; DataError when the file is missing, damaged or none, or its datasets do not fit together."""
    with hdf5_file.opened(path) as file:
        found = _Datasets(file)
        shape = found.whole("image_shape", 3)
        if min(shape) < 1 or math.prod(shape) > limits.MAX_COUNT:
            raise DataError(f"HDF5 file {path} holds no whitening: its image_shape is {shape}")
        try:
            method = Method(
                found.text("kind"), found.one("patch") or None, found.one("stride"), bool(found.one("per_channel")),
                found.one("components") or None, found.number("eps"),
            )  # fmt: skip
        except UsageError as error:
            raise DataError(f"HDF5 file {path} holds no whitening: {error}") from None
        expected = _shapes(method, shape)
        arrays = {name: found.array(name, expected[name]) for name in _ARRAYS}
        return Whitening(method, (shape[0], shape[1], shape[2]), found.one("count"), **arrays)


def _shapes(method: Method, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays by name."""
    groups = shape[0] if method.per_channel else 1
    length = shape[0] // groups * math.prod(method.kernel(shape))
    rows = groups, method.components or length, length
    return {
        "mean": (groups, length),
        "eigenvalues": (groups, length),
        "matrix": (groups, length) if method.is_diagonal else rows,
    }


class _Datasets:
    """The datasets of a file, by name; DataError for one that is missing or is not what it should be."""

    def __init__(self, file: hdf5_file.Hdf5File) -> None:
        self._file = file

    def _find(self, name: str) -> hdf5_file.Dataset:
        dataset = self._file.find(name)
        if isinstance(dataset, str):
            raise DataError(f'HDF5 file {self._file.path} holds no whitening: it has no dataset "{name}"')
        return dataset

    def text(self, name: str) -> str:
        return self._file.text(self._find(name))

    def whole(self, name: str, count: int) -> tuple[int, ...]:
        dataset = self._find(name)
        if dataset.count != count or dataset.dtype.kind not in "iu":
            raise self._file.error(
                dataset, f"must hold {count} whole number(s), got {dataset.count} of {dataset.dtype}"
            )
        return tuple(self._file.numbers(dataset).ravel().tolist())

    def one(self, name: str) -> int:
        return self.whole(name, 1)[0]

    def number(self, name: str) -> float:
        return float(self.array(name, ()))

    def array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        dataset = self._find(name)
        if dataset.shape != shape:
            raise self._file.error(dataset, f"must have shape {shape}, got {dataset.shape}")
        values = self._file.numbers(dataset).astype(np.float64, copy=False)
        if not np.isfinite(values).all():
            raise self._file.error(dataset, "has values that are not finite")
        return values
