"""Lists of images: text files with lines "path label", for ImageData and convert_imageset."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import numpy as np

from minicaffe.data import list_hints
from minicaffe.data.image import read_pixels, resize
from minicaffe.data.reader import ALL, EntryReader, Share, Undecoded
from minicaffe.data.shuffle import Rounds
from minicaffe.errors import DataError
from minicaffe.text import quoted, read_text

_WHAT_IT_IS = '; a list has lines "path label"'
_WHOLE_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)


def read_list(source: str | os.PathLike) -> list[tuple[str, int]]:
    """Return (path, label) for each line of the file; the label follows the last space, so paths may contain spaces.

    DataError when the file is missing, not text or empty, and, with the line number, when a line does not end in an
    integer of 32 bits.
    """
    return [_entry(line, where) or _refuse(line, where) for where, line in lines_of(source)]


def read_images(source: str | os.PathLike) -> list[tuple[str, int | None]]:
    """Return (path, label) as `read_list` does, but (path, None) for each line of a list that has no labels at all.

    DataError as for `read_list`; a list in which some lines have labels must have one in each.
    """
    lines = list(lines_of(source))
    entries = [_entry(line, where) for where, line in lines]
    for (where, line), entry in zip(lines, entries):
        if entry is None and (any(entries) or list_hints.of_label(line)):
            _refuse(line, where)
    return [entry or (line.strip(), None) for (_, line), entry in zip(lines, entries)]


def lines_of(source: str | os.PathLike) -> Iterator[tuple[str, str]]:
    """Yield file and number, for messages, and text of each line that is not empty; DataError if there is none."""
    found = False
    for number, line in enumerate(read_text(source, "image list", hint=_WHAT_IT_IS).split("\n"), 1):
        if line.strip():
            found = True
            yield f"{source}, line {number}", line
    if not found:
        raise DataError(f"image list {source} is empty")


def _entry(line: str, where: str) -> tuple[str, int] | None:
    """Return the path and the label of a line; None if it does not end in a space and a whole number."""
    path, _, label = line.rstrip().rpartition(" ")
    if not path.strip() or not _WHOLE_NUMBER.fullmatch(label):
        return None
    return path.rstrip(), int32(label, f"{where}: label")


def _refuse(line: str, where: str) -> NoReturn:
    raise DataError(
        f'{where}: expected "path label" with a whole number as label, got {quoted(line)}{list_hints.of_line(line)}'
    )


def int32(text: str, name: str) -> int:
    """Parse an integer; DataError, starting with `name`, when it is outside the range of int32, else ValueError."""
    if not _WHOLE_NUMBER.fullmatch(text):
        raise ValueError(text)
    number = int(text[:100])  # Python converts 4300 digits at most
    if len(text) > 100 or not -(2**31) <= number < 2**31:
        raise DataError(f"{name} {text[:100]} is beyond 32 bits: expected {-(2**31)} to {2**31 - 1}")
    return number


@contextlib.contextmanager
def hinting(root: str, name: str) -> Iterator[None]:
    """Add to a DataError inside the block what may be meant, if the image `name` of a list does not exist."""
    try:
        yield
    except DataError as error:
        hint = "" if os.path.exists(root + name) else list_hints.of_missing(root, name)
        if not hint:
            raise
        raise DataError(f"{error.args[0]}{hint}") from error


class ListedImage(NamedTuple):
    """An image file before it is read; fields as for `ImageListReader`."""

    path: str
    color: bool
    size: tuple[int, int] | None
    root_folder: str = ""  #: what `path` begins with

    def pixels(self) -> np.ndarray:
        """Read, decode and resize the image, (C, H, W), read-only; DataError when it cannot be read."""
        with hinting(self.root_folder, self.path.removeprefix(self.root_folder)):
            image = read_pixels(self.path, self.color)
        return resize(image, *self.size) if self.size else image


class ImageListReader(EntryReader):
    """Endless reader of batches of the images in a list.

    source: the list.  root_folder: prepended to each path.  batch_size: images per batch.
    color: True (default) for three channels, False for one.
    size: (height, width), in pixels, to resize to; None (default): not resized.  Images of different sizes give a
        batch that is a list instead of an array.
    seed: of the shuffle before every round; None (default): in the order of the list.
    skip: number of entries to skip at the start (default 0).  share: which of the others it reads (default: all).
    DataError as for `read_list`, and when `skip` is not less than the number of entries.
    """

    def __init__(
        self,
        source: str,
        root_folder: str,
        batch_size: int,
        color: bool = True,
        size: tuple[int, int] | None = None,
        seed: int | None = None,
        skip: int = 0,
        share: Share = ALL,
    ) -> None:
        self.source, self.root_folder, self.color, self.size = source, root_folder, color, size
        self.entries = self.read_entries()
        if skip >= len(self.entries):
            raise DataError(f"image list {source} has {len(self.entries)} entries, so {skip} cannot be skipped")
        super().__init__(batch_size, Rounds(len(self.entries), seed, skip), share)

    def read_entries(self) -> list[tuple[str, Any]]:
        """Return the path of the image and the label of each entry."""
        return read_list(self.source)

    def load(self, entry: int) -> tuple[Undecoded, Any]:
        """Return the image of an entry, not read yet, and its label, as `label_of` takes it."""
        path, label = self.entries[entry]
        return ListedImage(self.root_folder + path, self.color, self.size, self.root_folder), label

    def name_of(self, record: int) -> str:
        return self.root_folder + self.entries[record][0]
