"""Lists of images: text files with lines "path label", as ImageData and convert_imageset read them."""

from __future__ import annotations

import os
import re

import numpy as np

from minicaffe.data.image import read_image, resize
from minicaffe.data.reader import ALL, EntryReader, Share
from minicaffe.data.shuffle import Rounds
from minicaffe.errors import DataError
from minicaffe.text import read_text

_WHOLE_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)


def read_list(source: str | os.PathLike) -> list[tuple[str, int]]:
    """(path, label) for each line of the file; the label follows the last space, so paths may hold spaces.

    Raises `DataError` when the file is missing, no text, or empty, or, naming the line, when a line has no whole
    number of 32 bits at its end.
    """
    entries = []
    for number, line in enumerate(read_text(source, "image list").split("\n"), 1):
        if line.strip():
            path, _, label = line.rstrip().rpartition(" ")
            if not _WHOLE_NUMBER.fullmatch(label):
                raise DataError(
                    f'{source}, line {number}: expected "path label" with a whole number as label, got {line.strip()!r}'
                )
            if not path.strip():
                raise DataError(f'{source}, line {number}: expected "path label", got {line.strip()!r}')
            entries.append((path.rstrip(), int32(label, f"{source}, line {number}: label")))
    if not entries:
        raise DataError(f"image list {source} is empty")
    return entries


def int32(text: str, name: str) -> int:
    """The number in `text`; `DataError`, which begins with `name`, when it is beyond 32 bits."""
    number = int(text)
    if not -(2**31) <= number < 2**31:
        raise DataError(f"{name} {number} is beyond 32 bits: expected {-(2**31)} to {2**31 - 1}")
    return number


class ImageListReader(EntryReader):
    """Batches of the images in a list.

    size: (height, width) to resize to, or None.  seed: of the shuffle before every round, or None to keep the order.
    skip: entries left out before the first; share: which of the others.  Images of different sizes make a list instead
    of an array.
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
        self.entries = read_list(source)
        if skip >= len(self.entries):
            raise DataError(f"image list {source} has {len(self.entries)} entries, so {skip} cannot be skipped")
        super().__init__(batch_size, Rounds(len(self.entries), seed, skip), share)

    def load(self, entry: int) -> tuple[np.ndarray, int]:
        path, label = self.entries[entry]
        image = read_image(self.root_folder + path, self.color)
        return (resize(image, *self.size) if self.size else image), label
