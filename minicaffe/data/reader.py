"""Batches of records: what the prefetch thread of a data layer produces, and the position a resumed run starts from."""

from __future__ import annotations

import logging
import math
from typing import NamedTuple, Protocol

import numpy as np

from minicaffe.data.datum import DatumDecoder
from minicaffe.data.db import Cursor, Database, open_db
from minicaffe.data.shuffle import Rounds
from minicaffe.data.transformer import Images
from minicaffe.errors import DataError

log = logging.getLogger("minicaffe.data")


class Batch(NamedTuple):
    """Images as they were read, their labels, and the reader's position after them."""

    images: Images  #: (N, C, H, W), or a list of N arrays (C, H, W) when their sizes differ
    labels: np.ndarray  #: (N,) float32
    position: dict  #: JSON-able; `seek` takes it


class BatchReader(Protocol):
    """A source of batches without end."""

    batch_size: int

    def first_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the next image, which stays the next."""

    def read(self) -> Batch:
        """The next batch."""

    def seek(self, position: dict) -> None:
        """Go to a position that a batch told."""

    def position(self) -> dict:
        """The position now."""


def usable_position(saved: dict | None, own: dict, name: str) -> dict:
    """Where a reader that stands at `own` goes on: at `saved`, unless that is None or of a reader of another kind.

    The latter, as when a `shuffle` was added since, is a warning in the log, which begins with `name`.
    """
    if saved is None:
        return own
    if saved.keys() != own.keys():
        log.warning("%s reads from its start: the saved position is one in another order of the data", name)
        return own
    return saved


class Collector:
    """Gathers the images of one batch: in one array as long as they agree in shape and type, else in a list."""

    def __init__(self, count: int) -> None:
        self._count, self._size = count, 0
        self._stacked = np.empty(0)  # until the first image is added
        self._list: list[np.ndarray] | None = None
        self.labels = np.empty(count, np.float32)

    def add(self, image: np.ndarray, label: float) -> None:
        """Copy the image in."""
        if self._size == 0:
            self._stacked = np.empty((self._count, *image.shape), image.dtype)
        if self._list is None and (image.shape != self._stacked.shape[1:] or image.dtype != self._stacked.dtype):
            self._list = [*self._stacked[: self._size]]
        if self._list is None:
            self._stacked[self._size] = image
        else:
            self._list.append(image.copy())
        self.labels[self._size] = label
        self._size += 1

    @property
    def images(self) -> Images:
        return self._stacked if self._list is None else self._list


class EntryReader:
    """Batches of numbered entries, each of which can be read alone, in the order of `rounds`."""

    def __init__(self, batch_size: int, rounds: Rounds) -> None:
        self.batch_size, self.rounds = batch_size, rounds

    def load(self, entry: int) -> tuple[np.ndarray, int]:
        """The image (C, H, W) and the label of an entry; the image may be a view of memory that is used again."""
        raise NotImplementedError

    def first_shape(self) -> tuple[int, int, int]:
        return self.load(self.rounds.entry)[0].shape

    def read(self) -> Batch:
        collector = Collector(self.batch_size)
        for _ in range(self.batch_size):
            collector.add(*self.load(self.rounds.entry))
            self.rounds.advance()
        return Batch(collector.images, collector.labels, self.position())

    def position(self) -> dict:
        return self.rounds.position()

    def seek(self, position: dict) -> None:
        self.rounds.seek(position)


class ShuffledReader(EntryReader):
    """Batches of a database in a new order every round, a permutation of its records that follows from `seed`.

    The keys are listed once, then every record is looked up by its key.
    """

    def __init__(self, source: str, backend: str | int, batch_size: int, color: bool | None, seed: int) -> None:
        self.source = source
        self._database: Database = open_db(source, backend)
        self._decoder = DatumDecoder(source, color)
        self._keys = self._database.keys()
        if not self._keys:
            raise DataError(f"database {source} holds no records")
        super().__init__(batch_size, Rounds(len(self._keys), seed))

    def load(self, entry: int) -> tuple[np.ndarray, int]:
        key = self._keys[entry]
        return self._decoder.decode(key, self._database.get(key))


class DatabaseReader:
    """Batches of a database, record after record, round and round."""

    def __init__(self, source: str, backend: str | int, batch_size: int, color: bool | None = None) -> None:
        self.source, self.backend, self.batch_size = source, backend, batch_size
        self._database: Database = open_db(source, backend)
        self._decoder = DatumDecoder(source, color)
        self._cursor = Cursor(self._database)

    def first_shape(self) -> tuple[int, int, int]:
        peek = Cursor(self._database)
        peek.seek(self._cursor.position)
        return self._decoder.decode(*peek.next())[0].shape

    def read(self) -> Batch:
        collector = Collector(self.batch_size)
        for _ in range(self.batch_size):
            collector.add(*self._decoder.decode(*self._cursor.next()))
        return Batch(collector.images, collector.labels, self.position())

    def position(self) -> dict:
        key = self._cursor.position
        return {"key": None if key is None else key.decode("latin-1")}

    def seek(self, position: dict) -> None:
        key = position["key"]
        self._cursor.seek(None if key is None else key.encode("latin-1"))

    def __len__(self) -> int:
        return len(self._database)

    def load_all(self, limit: int = 4 << 30) -> tuple[np.ndarray, np.ndarray, list[bytes]] | None:
        """The whole database: images (N, C, H, W) uint8, labels (N,) int32 and keys, in order.

        None when it does not fit: images of different sizes, floats, or more than `limit` bytes.
        """
        count, shape = len(self._database), self.first_shape()
        if count * math.prod(shape) > limit:
            return None
        images, labels, keys = np.empty((count, *shape), np.uint8), np.empty(count, np.int32), []
        for index, (key, value) in enumerate(self._database.items()):
            image, labels[index] = self._decoder.decode(key, value)
            if image.shape != shape or image.dtype != np.uint8:
                return None
            images[index] = image
            keys.append(key)
        return images, labels, keys
