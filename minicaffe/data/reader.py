"""Readers that produce batches of records, in the prefetch thread of a data layer, with positions for resuming."""

from __future__ import annotations

import logging
import math
from typing import Any, NamedTuple, Protocol

import numpy as np

from minicaffe.data.collector import Collector
from minicaffe.data.datum import DatumDecoder, record_name
from minicaffe.data.db import Cursor, Database, open_db
from minicaffe.data.shuffle import Rounds
from minicaffe.data.transformer import NUMBERED, Images, Labels, Name
from minicaffe.data.workers import Each, in_turn
from minicaffe.errors import DataError, SnapshotError
from minicaffe.saved import field, shown

log = logging.getLogger("minicaffe.data")


class Batch(NamedTuple):
    """Untransformed images, their labels, and the reader's position after them."""

    images: Images  #: (N, C, H, W), or a list of N arrays (C, H, W) when their sizes differ
    labels: Labels  #: (N,) float32, or the boxes of N images
    position: dict  #: JSON-serializable; an argument for `seek`
    name: Name = NUMBERED  #: gives the name of an image, for messages


class Share(NamedTuple):
    """Which records of an endless stream one of several solvers reads: record i belongs to rank i % size.

    Positions are those of the whole stream between groups of `size` records, the same for all ranks.  Another number of
    ranks may continue from one: records are counted from there.
    """

    rank: int = 0
    size: int = 1

    @property
    def after(self) -> int:
        """How many records of its group come after the rank's own."""
        return self.size - 1 - self.rank


ALL = Share()


class BatchReader(Protocol):
    """An endless source of batches."""

    batch_size: int

    @property
    def records(self) -> int | None:
        """The number of records of the source, which come once in each pass; None if records are drawn at random."""

    def first_shape(self) -> tuple[int, int, int]:
        """Return (C, H, W) of the next image, without advancing."""

    def first_name(self) -> str:
        """Return the name of the image of `first_shape`, for messages."""

    def read(self, each: Each = in_turn) -> Batch:
        """Return the next batch; each: how the work on its images is distributed (default: it is not)."""

    def seek(self, position: dict) -> None:
        """Continue after `position`, as recorded in a Batch."""

    def position(self) -> dict:
        """Return the current position."""


def usable_position(saved: dict | None, own: dict, name: str) -> dict:
    """Return the position from which a reader starts: `saved`, or `own` if `saved` is None or of another kind.

    own: the reader's current position.  name: the layer, for the warning that is logged when the kinds differ, for
    example because `shuffle` was added to the prototxt.  SnapshotError for what is no position.
    """
    if saved is None:
        return own
    if not isinstance(saved, dict):
        raise SnapshotError(f"position must be that of a reader, with {', '.join(own)}, got {shown(saved)}")
    if saved.keys() != own.keys():
        log.warning("%s reads from its start: the saved position is one in another order of the data", name)
        return own
    return saved


class Undecoded(Protocol):
    """An image that any thread may decode."""

    def pixels(self) -> np.ndarray:
        """Return the image (C, H, W); DataError when it cannot be decoded."""


class RecordReader:
    """Base class of readers of single records: takes them in order, and has those of a batch decoded in parallel.

    batch_size: records per batch.
    last: what identifies the record that was read last, an argument for `name_of`.
    """

    last: Any = None

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._kind: tuple[tuple[int, ...], np.dtype] | None = None  # shape and type of the first image of a batch

    def next_record(self) -> tuple[np.ndarray | Undecoded, Any]:
        """Return the next image and its label, and advance; an array may be a view of a buffer that is reused."""
        raise NotImplementedError

    def label_of(self, label: Any) -> Any:
        """Return the label of an undecoded image as the batch has it; any thread may call it.  Default: as it is."""
        return label

    def name_of(self, record: Any) -> str:
        """Return the name of a record for messages.  record: a value of `last`."""
        raise NotImplementedError

    def first_image(self) -> np.ndarray:
        """Return the next image (C, H, W), without advancing."""
        raise NotImplementedError

    def first_name(self) -> str:
        """Return the name of the image of `first_shape`, for messages; called right after it."""
        return self.name_of(self.last)

    def first_shape(self) -> tuple[int, int, int]:
        """Return (C, H, W) of the next image, without advancing."""
        image = self.first_image()
        self._kind = image.shape, image.dtype
        channels, height, width = image.shape
        return channels, height, width

    def position(self) -> dict:
        """Return the current position, an argument for `seek`."""
        raise NotImplementedError

    def read(self, each: Each = in_turn) -> Batch:
        """Return the next batch; each: how images are decoded (default: one after the other).

        DataError for the first record in order that cannot be read or decoded.
        """
        if self._kind is None:
            self.first_shape()
        assert self._kind is not None
        batch = Collector(self.batch_size, *self._kind)
        waiting: list[tuple[int, Undecoded, Any]] = []
        records, failure = [], None
        try:
            for index in range(self.batch_size):
                image, label = self.next_record()
                records.append(self.last)
                if isinstance(image, np.ndarray):
                    batch.put(index, image, label)
                else:
                    waiting.append((index, image, label))
        except DataError as error:  # those before this record are decoded first: their errors come first
            failure = error

        def decode(number: int) -> None:
            index, image, label = waiting[number]
            batch.put(index, image.pixels(), self.label_of(label))

        each(decode, len(waiting))
        if failure is not None:
            raise failure
        images = batch.images
        self._kind = images[0].shape, images[0].dtype
        return Batch(
            images, batch.labels, self.position(), lambda i: f"image {i} of the batch ({self.name_of(records[i])})"
        )


class EntryReader(RecordReader):
    """Base class of readers with random access: batches of numbered entries in the order of `rounds`.

    share: which of them; solvers that share shuffled entries need one random seed.
    """

    def __init__(self, batch_size: int, rounds: Rounds, share: Share = ALL) -> None:
        super().__init__(batch_size)
        self.rounds, self.share = rounds, share

    def load(self, entry: int) -> tuple[np.ndarray | Undecoded, int]:
        """Return the image and the label of an entry, as `next_record` does."""
        raise NotImplementedError

    @property
    def records(self) -> int:
        """The number of entries, of the whole source."""
        return self.rounds.count

    def first_image(self) -> np.ndarray:
        self.last = self.rounds.entry
        return decoded(self.load(self.last)[0])

    def next_record(self) -> tuple[np.ndarray | Undecoded, int]:
        self.rounds.advance(self.share.rank)
        self.last = self.rounds.entry
        record = self.load(self.last)
        self.rounds.advance(1 + self.share.after)
        return record

    def position(self) -> dict:
        """Return the position of `rounds`: seed, epoch and index."""
        return self.rounds.position()

    def seek(self, position: dict) -> None:
        """Restore a position returned by `position`; errors as for `Rounds.seek`."""
        self.rounds.seek(position)


def decoded(image: np.ndarray | Undecoded) -> np.ndarray:
    """Return the image, decoded if it is not."""
    return image if isinstance(image, np.ndarray) else image.pixels()


class ShuffledReader(EntryReader):
    """Reader of a database in a new random order every round.

    The keys are listed once; every record is then read by its key.

    source, backend: as for `open_db`.  decoder: of its records.  seed: determines all orders.
    DataError for an empty database.
    """

    def __init__(
        self, source: str, backend: str | int, batch_size: int, decoder: DatumDecoder, seed: int, share: Share = ALL
    ) -> None:
        self.source = source
        self._database: Database = open_db(source, backend)
        self._decoder = decoder
        self._keys = self._database.keys()
        if not self._keys:
            raise DataError(f"database {source} holds no records")
        super().__init__(batch_size, Rounds(len(self._keys), seed), share)

    def load(self, entry: int) -> tuple[np.ndarray | Undecoded, int]:
        """Read record number `entry`; DataError when it is no Datum."""
        key = self._keys[entry]
        return self._decoder.parse(key, self._database.get(key))

    def name_of(self, record: int) -> str:
        return record_name(self._keys[record], self.source)


class DatabaseReader(RecordReader):
    """Reader of a database in the order of its keys, repeated endlessly.

    source, backend: as for `open_db`.  decoder: of its records (default: Datums).  share: which records (default: all).
    """

    def __init__(
        self, source: str, backend: str | int, batch_size: int, decoder: DatumDecoder | None = None, share: Share = ALL
    ) -> None:
        super().__init__(batch_size)
        self.source, self.backend, self.share = source, backend, share
        self._database: Database = open_db(source, backend)
        self._decoder = decoder or DatumDecoder(source)
        self._cursor = Cursor(self._database)

    def first_image(self) -> np.ndarray:
        peek = Cursor(self._database)
        peek.seek(self._cursor.position)
        self.last, value = peek.next()
        return self._decoder.decode(self.last, value)[0]

    def next_record(self) -> tuple[np.ndarray | Undecoded, int]:
        self._cursor.skip(self.share.rank)
        self.last, value = self._cursor.next()
        record = self._decoder.parse(self.last, value)
        self._cursor.skip(self.share.after)
        return record

    def name_of(self, record: bytes) -> str:
        return record_name(record, self.source)

    def position(self) -> dict:
        """Return the key of the last record read, decoded as Latin-1; None before the first."""
        key = self._cursor.position
        return {"key": None if key is None else key.decode("latin-1")}

    def seek(self, position: dict) -> None:
        """Continue after `position`, as recorded in a Batch; SnapshotError if its key cannot be one."""
        key = field(position, "key")
        if key is not None and not (isinstance(key, str) and key and max(key) <= "\xff"):
            raise SnapshotError(f"key must be that of a record, or null, got {shown(key)}")
        self._cursor.seek(None if key is None else key.encode("latin-1"))

    @property
    def records(self) -> int:
        """The number of records, of the whole database."""
        return len(self._database)

    def load_all(self, limit: int = 4 << 30) -> tuple[np.ndarray, np.ndarray, list[bytes]] | None:
        """Return the whole database in order: images (N, C, H, W) uint8, labels (N,) int32, and keys.

        Returns None when the images differ in size, are not uint8, or have more than `limit` bytes (default 4 GiB),
        and for a reader of a share.
        """
        count, shape = len(self._database), self.first_shape()
        if self.share.size > 1 or count * math.prod(shape) > limit:
            return None
        images, labels, keys = np.empty((count, *shape), np.uint8), np.empty(count, np.int32), []
        for index, (key, value) in enumerate(self._database.items()):
            image, labels[index] = self._decoder.decode(key, value)
            if image.shape != shape or image.dtype != np.uint8:
                return None
            images[index] = image
            keys.append(key)
        return images, labels, keys
