"""Batches of records: what the prefetch thread of a data layer produces, and the position a resumed run starts from."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np

from minicaffe.data.datum import DatumDecoder
from minicaffe.data.db import Cursor, Database, open_db
from minicaffe.data.transformer import Images


class Batch(NamedTuple):
    """Images as they were read, their labels, and the reader's position after them."""

    images: Images  #: (N, C, H, W), or a list of N arrays (C, H, W) when their sizes differ
    labels: np.ndarray  #: (N,) float32
    position: dict  #: JSON-able; `seek` takes it


class BatchReader(Protocol):
    """A source of batches without end."""

    def first_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the next image, which stays the next."""

    def read(self) -> Batch:
        """The next batch."""

    def seek(self, position: dict) -> None:
        """Go to a position that a batch told."""

    def position(self) -> dict:
        """The position now."""


class Collector:
    """Gathers the images of one batch: in one array as long as they agree in shape and type, else in a list."""

    def __init__(self, count: int) -> None:
        self._count, self._size = count, 0
        self._stacked: np.ndarray | None = None
        self._list: list[np.ndarray] | None = None
        self.labels = np.empty(count, np.float32)

    def add(self, image: np.ndarray, label: float) -> None:
        """Copy the image in."""
        if self._stacked is None:
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
