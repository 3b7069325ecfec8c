"""Lists of images: text files with lines "path label", as ImageData and convert_imageset read them."""

from __future__ import annotations

import logging
import os

import numpy as np

from minicaffe.data.image import read_image, resize
from minicaffe.data.reader import Batch, Collector
from minicaffe.data.shuffle import shuffled
from minicaffe.errors import DataError

log = logging.getLogger("minicaffe.data")


def read_list(source: str | os.PathLike) -> list[tuple[str, int]]:
    """(path, label) for each line of the file; the label follows the last space, so paths may hold spaces.

    Raises `DataError` when the file is missing or empty, or when a line has no whole number at its end.
    """
    try:
        with open(source, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise DataError(f"cannot read image list {source}: {error.strerror or error}") from error
    entries = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        path, _, label = line.rstrip().rpartition(" ")
        try:
            entries.append((path.rstrip(), int(label)))
        except ValueError:
            raise DataError(
                f'{source}, line {number}: expected "path label" with a whole number as label, got {line.strip()!r}'
            ) from None
        if not path.strip():
            raise DataError(f'{source}, line {number}: expected "path label", got {line.strip()!r}')
    if not entries:
        raise DataError(f"image list {source} is empty")
    return entries


class ImageListReader:
    """Batches of the images in a list.

    size: (height, width) to resize to, or None.  seed: of the shuffle before every round, or None to keep the order.
    skip: entries left out before the first.  Images of different sizes make a list instead of an array.
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
    ) -> None:
        self.source, self.root_folder, self.batch_size = source, root_folder, batch_size
        self.color, self.size = color, size
        self.entries = read_list(source)
        if skip >= len(self.entries):
            raise DataError(f"image list {source} has {len(self.entries)} entries, so {skip} cannot be skipped")
        self.seek({"seed": seed, "epoch": 0, "index": skip})

    def seek(self, position: dict) -> None:
        self._seed, self._epoch, self._index = position["seed"], position["epoch"], position["index"]
        self._shuffle()

    def position(self) -> dict:
        return {"seed": self._seed, "epoch": self._epoch, "index": self._index}

    def _shuffle(self) -> None:
        count = len(self.entries)
        self._order = np.arange(count) if self._seed is None else shuffled(self._seed, self._epoch, count)

    def first_shape(self) -> tuple[int, int, int]:
        return self._load(self._index)[0].shape

    def _load(self, index: int) -> tuple[np.ndarray, int]:
        path, label = self.entries[self._order[index]]
        image = read_image(self.root_folder + path, self.color)
        return (resize(image, *self.size) if self.size else image), label

    def read(self) -> Batch:
        collector = Collector(self.batch_size)
        for _ in range(self.batch_size):
            collector.add(*self._load(self._index))
            self._index += 1
            if self._index == len(self.entries):
                log.info("Restarting data prefetching from start.")
                self._epoch, self._index = self._epoch + 1, 0
                self._shuffle()
        return Batch(collector.images, collector.labels, self.position())
