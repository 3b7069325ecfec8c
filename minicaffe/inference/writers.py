"""Files of predictions: CSV, JSON lines, .npz, HDF5; rows are written as they come, a file appears when it is whole."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol, TextIO

import numpy as np

from minicaffe.files import replacing
from minicaffe.inference.formats import FORMATS
from minicaffe.inference.results import DETECTION, Best, Layout, Rows, column_of
from minicaffe.text import csv_text, number_names, printable

_AT_ONCE = 1 << 22  # bytes of an HDF5 dataset that are collected before they are written


class Writer(Protocol):
    """What predictions are written to."""

    def add(self, rows: Rows) -> None:
        """Write the rows of a batch."""


@contextlib.contextmanager
def writing(path: str, kind: str, layout: Layout) -> Iterator[Writer]:
    """Yield the writer of a file, which replaces `path` at the end of the block, unless it raises.

    path: "" for standard output.  kind: one of `FORMATS`.  layout: what is written.
    DataError when the file cannot be written.
    """
    if not path:
        yield _lines(kind)(layout, sys.stdout)
        return
    with replacing(path) as temporary:
        if FORMATS[kind].is_lines:
            with open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
                yield _lines(kind)(layout, file)
        elif kind == "npz":
            with open(temporary, "wb") as archive, Npz(layout, archive, os.path.dirname(temporary)) as npz:
                yield npz
        else:
            with Hdf5(layout, temporary) as hdf5:
                yield hdf5


def _lines(kind: str) -> Callable[[Layout, TextIO], Writer]:
    writers: dict[str, Callable[[Layout, TextIO], Writer]] = {"text": TextLines, "csv": Csv, "jsonl": JsonLines}
    return writers[kind]


# -- lines of text -----------------------------------------------------------------------------------------------------


class TextLines:
    """A line for each input: its best classes; of maps of scores, the classes that are the best one of most places.

    Of a blob that is no output of scores it has the shape and the first values.
    """

    def __init__(self, layout: Layout, file: TextIO) -> None:
        self._layout, self._file, self._count = layout, file, layout.top or 5

    def add(self, rows: Rows) -> None:
        """Write a line for each row."""
        for i, name in enumerate(rows.names):
            values = {blob: values[i] for blob, values in rows.blobs.items()}
            if self._layout.detected_classes:
                parts = [self._detection(**values)]
            else:
                parts = [self._part(*each) for each in values.items()]
            self._file.write(printable(f"{name}: {'; '.join(parts)}") + "\n")
        self._file.flush()

    def _detection(self, confidence: float, **values: Any) -> str:
        corners = " ".join(f"{values[name]:.4f}" for name in DETECTION[2:])
        return f"{self._layout.name_of(values[DETECTION[0]])} {confidence:.4f}, box {corners}"

    def _part(self, blob: str, values: np.ndarray) -> str:
        if blob == self._layout.scores and self._layout.maps:
            return f"{blob} {'x'.join(map(str, values.shape))}, best class of each place: {self._shares(values)}"
        if blob == self._layout.scores and values.size > 1:
            best = Best.of(values[None], self._count)
            pairs = zip(best.classes[0].tolist(), best.scores[0])
            return ", ".join(f"{self._layout.name_of(index)} {score:.4f}" for index, score in pairs)
        first = " ".join(f"{value:.6g}" for value in values.ravel()[: self._count])
        if values.size == 1:
            return f"{blob} {first}"
        return f"{blob} {'x'.join(map(str, values.shape))}: {first}{' ...' if values.size > self._count else ''}"

    def _shares(self, maps: np.ndarray) -> str:
        """The classes that are the best one of most places, each with its share of the places."""
        counts = np.bincount(maps.reshape(len(maps), -1).argmax(0), minlength=len(maps))
        shares = counts / counts.sum()
        ranked = np.argsort(-counts, kind="stable")[: self._count]
        return ", ".join(f"{self._layout.name_of(index)} {shares[index]:.2%}" for index in ranked if counts[index])


class Csv:
    """Comma-separated values: filename, label, then a column for each value or for each of the best classes."""

    def __init__(self, layout: Layout, file: TextIO) -> None:
        self._layout, self._file = layout, file
        head = ["filename", *["label"] * layout.labelled]
        for blob, shape in layout.shapes.items():
            if layout.top and blob == layout.scores:
                count = min(layout.top, int(np.prod(shape)))
                head += [f"{word}{k + 1}" for k in range(count) for word in ("class", "score")]
            else:
                head += self._heads(blob, int(np.prod(shape)))
        file.write(csv_text([head]))

    def _heads(self, blob: str, count: int) -> list[str]:
        layout = self._layout
        if blob == layout.scores and len(layout.classes) == count:
            return list(layout.classes)
        return number_names(column_of(blob), count)

    def add(self, rows: Rows) -> None:
        """Write a line for each row."""
        layout = self._layout
        cells: list[list[Any]] = [[name] for name in rows.names]
        if layout.labelled:
            for row, label in zip(cells, rows.labels):
                row.append("" if label is None else label)
        for blob, values in rows.blobs.items():
            if layout.top and blob == layout.scores:
                best = Best.of(values, layout.top)
                for row, classes, scores in zip(cells, best.classes.tolist(), best.scores):
                    for index, score in zip(classes, scores):
                        row += [layout.name_of(index), score]
            else:
                is_class = layout.detected_classes and blob == layout.scores
                for row, flat in zip(cells, values.reshape(len(values), math.prod(values.shape[1:]))):
                    row.extend(map(layout.name_of, flat) if is_class else flat)
        self._file.write(csv_text(cells))
        self._file.flush()


class JsonLines:
    """An object for each input on a line of its own: filename, label, blobs as nested lists, or "top"."""

    def __init__(self, layout: Layout, file: TextIO) -> None:
        self._layout, self._file = layout, file

    def add(self, rows: Rows) -> None:
        """Write a line for each row."""
        layout = self._layout
        for i, name in enumerate(rows.names):
            parts = [f'"filename": {json.dumps(name)}']
            if layout.labelled:
                parts.append(f'"label": {json.dumps(rows.labels[i])}')
            for blob, values in rows.blobs.items():
                if layout.top and blob == layout.scores:
                    parts.append(f'"top": [{", ".join(self._best(values[i]))}]')
                else:
                    parts.append(f"{json.dumps(column_of(blob))}: {_json(values[i])}")
                    if layout.detected_classes and blob == layout.scores and layout.classes:
                        parts.append(f'"name": {json.dumps(layout.name_of(values[i]))}')
            self._file.write(f"{{{', '.join(parts)}}}\n")
        self._file.flush()

    def _best(self, values: np.ndarray) -> Iterator[str]:
        best = Best.of(values[None], self._layout.top)
        for index, score in zip(best.classes[0].tolist(), best.scores[0]):
            name = f'"name": {json.dumps(self._layout.name_of(index))}, ' if len(self._layout.classes) else ""
            yield f'{{"class": {index}, {name}"score": {_json(score)}}}'


def _json(values: np.ndarray) -> str:
    """Return an array as nested lists of the shortest numbers; null for what is not finite, as JSON has no such."""
    if np.ndim(values):
        return f"[{', '.join(map(_json, values))}]"
    return str(values) if np.isfinite(values) else "null"


# -- arrays ------------------------------------------------------------------------------------------------------------


class Npz:
    """An .npz archive with an array for each column, `filename` among them.

    The columns grow in unnamed files in the archive's folder, which have room on that disk; closing copies them.
    """

    def __init__(self, layout: Layout, archive: BinaryIO, folder: str) -> None:
        self._layout, self._archive, self._folder = layout, archive, folder
        self._names: list[str] = []
        self._parts: dict[str, tuple[BinaryIO, np.ndarray]] = {}
        self._files = contextlib.ExitStack()

    def __enter__(self) -> Npz:
        return self

    def add(self, rows: Rows) -> None:
        """Append the rows to each column."""
        columns = self._layout.arrays(rows)
        self._names += columns.pop("filename").tolist()
        for name, values in columns.items():
            if name not in self._parts:
                file = self._files.enter_context(tempfile.TemporaryFile(dir=self._folder))
                self._parts[name] = file, values[:0]
            self._parts[name][0].write(np.ascontiguousarray(values).data)

    def __exit__(self, kind, value, traceback) -> None:
        with self._files:
            if kind is None:
                arrays: dict[str, Any] = {name: self._column(*part) for name, part in self._parts.items()}
                np.savez(self._archive, filename=np.array(self._names, dtype=np.str_), **arrays)

    def _column(self, file: BinaryIO, like: np.ndarray) -> np.ndarray:
        file.flush()
        shape = (len(self._names), *like.shape[1:])
        return np.memmap(file, like.dtype, "r", shape=shape) if np.prod(shape) else np.empty(shape, like.dtype)


class Hdf5:
    """An HDF5 file with a dataset for each column, `filename` among them.

    path: of the file, which is rewritten.
    """

    def __init__(self, layout: Layout, path: str) -> None:
        self._layout, self._path = layout, path
        self._waiting: list[dict[str, np.ndarray]] = []
        self._bytes = 0
        self._is_new = True

    def __enter__(self) -> Hdf5:
        return self

    def add(self, rows: Rows) -> None:
        """Append the rows to each dataset, when there are enough of them."""
        columns = self._layout.arrays(rows)
        self._waiting.append(columns)
        self._bytes += sum(values.nbytes for values in columns.values())
        if self._bytes >= _AT_ONCE:
            self._write()

    def __exit__(self, kind, value, traceback) -> None:
        if kind is None:
            self._write()

    def _write(self) -> None:
        from minicaffe import hdf5_file

        waiting, self._waiting, self._bytes = self._waiting, [], 0
        columns = {name: np.concatenate([each[name] for each in waiting]) for name in (waiting or [{}])[0]}
        if self._is_new:
            with open(self._path, "wb") as file:
                file.write(hdf5_file.content(lambda new: _create(new, columns)))
            self._is_new = False
        elif columns:
            hdf5_file.append(self._path, lambda file: _extend(file, columns))


def _create(file: Any, columns: dict[str, np.ndarray]) -> None:
    for name, values in columns.items():
        stored, row = _stored(values), values.shape[1:]
        rows = max(1, min(1024, (1 << 16) // max(1, values[:1].nbytes)))
        file.create_dataset(name, data=stored, maxshape=(None, *row), chunks=(rows, *row))


def _extend(file: Any, columns: dict[str, np.ndarray]) -> None:
    for name, values in columns.items():
        dataset = file[name]
        dataset.resize(len(dataset) + len(values), axis=0)
        dataset[len(dataset) - len(values) :] = _stored(values)


def _stored(values: np.ndarray) -> np.ndarray:
    """Return values as h5py stores them: texts as UTF-8 of any length, a file name in another encoding as it is."""
    if values.dtype.kind != "U":
        return values
    import h5py

    texts = [text.encode("utf-8", "surrogateescape") for text in values.tolist()]
    return np.array(texts, dtype=h5py.string_dtype())
