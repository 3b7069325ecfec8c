"""What a net is run on: image files, folders and lists of them, databases, arrays, and what is piped in.

Inputs are found before anything is computed; images are read when they are needed.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from minicaffe.data.arrays import read_array, read_arrays
from minicaffe.data.datum import DatumDecoder, EncodedImage
from minicaffe.data.db import backends_in, open_db
from minicaffe.data.image_file import FORMATS, has_signature
from minicaffe.data.image_list import hinting, read_images
from minicaffe.errors import DataError, listed

_SIGNATURE = 16  # bytes
_IMAGES_OF_ARCHIVE, _LABELS_OF_ARCHIVE = ("images", "data", "x"), ("labels", "label", "y")


class Preparation(Protocol):
    """How an image becomes a row of the net's input: a `Preprocessing` or a `Plain`."""

    shape: tuple[int, ...]  #: of a row

    def decode(self, data: bytes, name: str = ...) -> np.ndarray:
        """Return the image in the bytes of a file."""

    def read(self, path: str) -> np.ndarray:
        """Return the image in a file."""

    def resized(self, image: np.ndarray, name: str = ...) -> np.ndarray:
        """Return an image of a database or an array, resized."""

    def write(self, image: np.ndarray, out: np.ndarray, name: str = ...) -> None:
        """Write the row of an image that one of the above has returned."""

    def place(self, height: int, width: int) -> np.ndarray:
        """Return where in the input a decoded image of height x width is, (4,), as fractions of the input."""

    def describe(self, stored: bool = False) -> str:
        """Return what is done, in one line; stored: with images that are not decoded (`Inputs.stored`)."""


class Item(NamedTuple):
    """One image, not read yet.

    load: function that reads it, which any thread may call; DataError when it cannot be read.
    label: None where there is none.
    """

    name: str
    load: Callable[[Preparation], np.ndarray]
    label: int | None = None


@dataclass(frozen=True)
class Source:
    """Items from one place.

    count: how many; None if that is not known.  labelled: whether they have labels.
    stored: whether they are pixels or values with the order of channels in which they are stored, no image files.
    """

    items: Callable[[], Iterator[Item]]
    count: int | None
    labelled: bool = False
    stored: bool = False


class Inputs:
    """The items of several sources, in order."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)

    @property
    def count(self) -> int | None:
        """The number of items; None if it is not known."""
        counts = [source.count for source in self._sources]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def labelled(self) -> bool:
        """Whether any of the sources has labels."""
        return any(source.labelled for source in self._sources)

    @property
    def stored(self) -> bool:
        """Whether all items have the order of channels in which they are stored."""
        return all(source.stored for source in self._sources)

    def __iter__(self) -> Iterator[Item]:
        for source in self._sources:
            yield from source.items()


def find_inputs(words: Sequence[str], root: str = "", stream: io.BufferedIOBase | None = None) -> Inputs:
    """Return the inputs that `words` name, in this order.

    words: image files; folders, which are searched for images in all their folders, sorted; .txt lists of image files,
        with labels, or without labels in any line; folders of an LMDB or a LevelDB; .npy and .npz arrays
        (N, C, H, W); "-" for `stream`.
    root: put before each path in a list, as it is.
    stream: names of image files, one a line, each read when it is needed; or the bytes of one image, other than TGA.
    DataError for a path that does not exist, a folder or a list without images, and a damaged array.
    """
    return Inputs([_source(word, root, stream) for word in words])


def _source(word: str, root: str, stream: io.BufferedIOBase | None) -> Source:
    if word == "-" and stream is not None:
        return Source(functools.partial(_piped, stream), None)
    if os.path.isdir(word):
        backends = backends_in(word)
        return _database(word, backends[0]) if backends else _files(images_in(word))
    if not os.path.exists(word):
        raise DataError(f"there is no file or folder '{word}'")
    extension = os.path.splitext(word)[1].lower()
    if extension == ".txt":
        return _list(word, root)
    return {".npy": _array, ".npz": _archive}.get(extension, lambda path: _files([path]))(word)


# -- files -------------------------------------------------------------------------------------------------------------


def images_in(folder: str) -> list[str]:
    """Return the paths of all image files, by their extensions, in a folder and the folders in it, sorted.

    Hidden files and folders are left out.  DataError if there is none.
    """
    Image.init()
    extensions = {ext for ext, kind in Image.registered_extensions().items() if kind in FORMATS}
    paths: list[str] = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        shown = (name for name in names if not name.startswith("."))
        paths += [os.path.join(where, name) for name in shown if os.path.splitext(name)[1].lower() in extensions]
    if not paths:
        raise DataError(f"folder '{folder}' holds no image and is no database")
    return sorted(paths)


def _files(paths: Sequence[str]) -> Source:
    return Source(lambda: (_file(path) for path in paths), len(paths))


def _file(path: str) -> Item:
    return Item(path, lambda preparation: preparation.read(path))


def _list(path: str, root: str) -> Source:
    entries = read_images(path)
    return Source(
        lambda: (Item(root + name, functools.partial(_listed, root, name), label) for name, label in entries),
        len(entries),
        labelled=entries[0][1] is not None,
    )


def _listed(root: str, name: str, preparation: Preparation) -> np.ndarray:
    with hinting(root, name):
        return preparation.read(root + name)


def _piped(stream: io.BufferedIOBase) -> Iterator[Item]:
    """Yield the image in a stream, or those that its lines name."""
    start = _start(stream)
    if has_signature(start):
        data = start + stream.read()
        yield Item("-", lambda preparation: preparation.decode(data, "the image from standard input"))
        return
    first = start if start.endswith(b"\n") else start + stream.readline()
    for line in itertools.chain(first.split(b"\n"), stream):
        if line.strip():
            yield _file(os.fsdecode(line.strip()))


def _start(stream: io.BufferedIOBase) -> bytes:
    """Return the first bytes, as many as a signature has; fewer if they are lines of text, to which a pipe may add."""
    start = b""
    while len(start) < _SIGNATURE and (has_signature(start) or not start.endswith(b"\n")):
        more = stream.read1(_SIGNATURE - len(start))
        if not more:
            break
        start += more
    return start


# -- databases and arrays ----------------------------------------------------------------------------------------------


def _database(path: str, backend: str) -> Source:
    with contextlib.closing(open_db(path, backend)) as database:
        count, first = len(database), next(iter(database.items()), None)
        stored = first is not None and not _is_encoded(path, *first)
    return Source(functools.partial(_records, path, backend), count, labelled=True, stored=stored)


def _is_encoded(path: str, key: bytes, value: bytes | memoryview) -> bool:
    """Return whether a record is an image file, or damaged."""
    try:
        return isinstance(DatumDecoder(path).parse(key, value)[0], EncodedImage)
    except DataError:
        return True


def _records(path: str, backend: str) -> Iterator[Item]:
    decoder = DatumDecoder(path)
    with contextlib.closing(open_db(path, backend)) as database:
        for key, value in database.items():
            name = f"{path}:{key.decode(errors='replace')}"
            try:
                image, label = decoder.parse(key, value)
            except DataError as error:
                yield Item(name, functools.partial(_fail, error))
                continue
            if isinstance(image, EncodedImage):
                yield Item(name, functools.partial(_decode, image.data, image.name), label)
            else:
                yield Item(name, functools.partial(_resize, image.copy(), name), label)


def _fail(error: DataError, preparation: Preparation) -> np.ndarray:
    raise error


def _decode(data: bytes, name: str, preparation: Preparation) -> np.ndarray:
    return preparation.decode(data, name)


def _resize(pixels: np.ndarray, name: str, preparation: Preparation) -> np.ndarray:
    return preparation.resized(pixels, name)


def _array(path: str) -> Source:
    return _rows(path, read_array(path), None)


def _archive(path: str) -> Source:
    """Return the rows of the only array beside the labels in an .npz file, or of the one with a name of images."""
    arrays = read_arrays(path)
    labels = next((arrays.pop(name) for name in _LABELS_OF_ARCHIVE if name in arrays), None)
    name = next((name for name in _IMAGES_OF_ARCHIVE if name in arrays), next(iter(arrays), ""))
    if len(arrays) != 1 and name not in _IMAGES_OF_ARCHIVE:
        raise DataError(
            f"'{path}' must hold one array of images, or one of the name {' or '.join(_IMAGES_OF_ARCHIVE)}, "
            f"got {listed(arrays) or 'none'}"
        )
    if labels is not None and labels.shape != arrays[name].shape[:1]:
        raise DataError(f"'{path}': expected {len(arrays[name])} labels, got an array of shape {labels.shape}")
    if labels is not None:
        _check_labels(path, labels)
    return _rows(path, arrays[name], labels)


def _check_labels(path: str, labels: np.ndarray) -> None:
    values = labels.astype(np.float64)
    wrong = np.flatnonzero(~((values == np.trunc(values)) & (np.abs(values) < 2**31)))
    if len(wrong):
        raise DataError(f"'{path}': labels must be whole numbers of 32 bits, got {values[wrong[0]]:g} at {wrong[0]}")


def _rows(path: str, array: np.ndarray, labels: np.ndarray | None) -> Source:
    if array.ndim < 2:
        raise DataError(f"'{path}': expected images (N, C, H, W), got shape {array.shape}")

    def items() -> Iterator[Item]:
        for i, row in enumerate(array):
            name, label = f"{path}[{i}]", None if labels is None else int(labels[i])
            yield Item(name, functools.partial(_resize, row, name), label)

    return Source(items, len(array), labelled=labels is not None, stored=True)
