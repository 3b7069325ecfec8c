"""Reader of LevelDB databases, without the LevelDB library.

The library's Python wheels are not available for all versions of Python, and it locks a database, so that a train and a
test net cannot share one.  A database is a folder of sorted tables (*.ldb, *.sst; `leveldb_table`), a log of the newest
writes (*.log), and a manifest, itself a log, that lists the valid tables (`leveldb_log`).  CURRENT names the manifest.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from minicaffe.data.leveldb_log import PUT, Entry, log_entries, read_current, read_manifest
from minicaffe.data.leveldb_table import OpenTable
from minicaffe.errors import DataError

_TABLES_OPEN = 64  # the largest number of tables open at a time


class _Table(NamedTuple):
    """The file of one sorted table, and the range of its user keys."""

    path: str
    smallest: bytes
    largest: bytes


class LevelDbReader:
    """A LevelDB open for reading, without a lock; its files are not modified.

    source: the folder.  DataError when it cannot be read, or when a table is missing or truncated.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._length: int | None = None
        self._closed = False
        self._open = functools.lru_cache(_TABLES_OPEN)(OpenTable)
        with self._errors():
            tables, log_number, previous = read_manifest(read_current(source))
            files = os.listdir(source)
            self._tables = sorted((self._table(n, *t) for n, t in tables.items()), key=lambda table: table.smallest)
            self._smallest = [table.smallest for table in self._tables]
            self._reach = list(accumulate((table.largest for table in self._tables), max))  # running maximum
            logs = sorted(name for name in files if name.endswith(".log") and name[:-4].isdigit())
            logs = [n for n in logs if int(n[:-4]) >= log_number or (previous and int(n[:-4]) == previous)]
            self._newest = sorted(e for name in logs for e in log_entries(os.path.join(source, name)))

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Convert the exceptions for damaged and missing files inside the block to DataError."""
        try:
            yield
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read LevelDB {self.source}: {error}") from error

    def _table(self, number: int, size: int, smallest: bytes, largest: bytes) -> _Table:
        for suffix in ("ldb", "sst"):
            path = os.path.join(self.source, f"{number:06d}.{suffix}")
            if os.path.exists(path):
                if os.path.getsize(path) < size:
                    raise ValueError(
                        f"{os.path.basename(path)} is truncated: it has {os.path.getsize(path)} bytes, expected {size}"
                    )
                return _Table(path, smallest, largest)
        raise ValueError(f"table {number:06d}.ldb is missing")

    def __len__(self) -> int:
        if self._length is None:
            self._length = sum(1 for _ in self.items())
        return self._length

    def items(self, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over (key, value) from the first key greater than `after`; None: from the first."""
        self._check_open()
        previous, start = None, b"" if after is None else after + b"\0"  # the smallest key greater than `after`
        with self._errors():
            for key, order, value in self._merged(start):
                if key == previous:  # older entries of the same key follow the newest
                    continue
                if previous is not None and key < previous:
                    raise ValueError("its keys are out of order")
                previous = key
                if -order & 0xFF == PUT:
                    yield key, value

    def keys(self) -> list[bytes]:
        """Return all keys in order; keys and values are stored together, so this reads the whole database."""
        return [key for key, _ in self.items()]

    def get(self, key: bytes) -> bytes:
        """Return the value of a key; DataError when there is no such record."""
        self._check_open()
        with self._errors():
            newest = min(self._versions(key), default=(key, 0, b""))
        if -newest[1] & 0xFF != PUT:
            raise DataError(f"LevelDB {self.source} has no record {key.decode(errors='replace')!r}")
        return newest[2]

    def _versions(self, key: bytes) -> Iterator[Entry]:
        """Iterate over the newest entry of a key in the log and in each table whose range includes the key."""
        logged = bisect_left(self._newest, (key,))
        sources = [iter(self._newest[logged : logged + 1])]
        place = bisect_right(self._smallest, key)
        while place and self._reach[place - 1] >= key:  # tables of level 0 overlap
            place -= 1
            if self._tables[place].largest >= key:
                sources.append(self._open(self._tables[place].path).entries(key))
        for entries in sources:
            entry = next(entries, None)
            if entry is not None and entry[0] == key:
                yield entry

    def _merged(self, start: bytes) -> Iterator[Entry]:
        """Merge the entries of log and tables in order, from key `start`.

        A table is opened when its smallest key is reached, so that few tables are open at a time.
        """
        waiting = list(reversed(self._tables))
        heap: list[tuple[Entry, int, Iterator[Entry]]] = []

        def push(entries: Iterator[Entry], number: int) -> None:
            entry = next(entries, None)
            if entry is not None:
                heapq.heappush(heap, (entry, number, entries))

        push(iter(self._newest[bisect_left(self._newest, (start,)) :]), -1)
        while heap or waiting:
            while waiting and (not heap or waiting[-1].smallest <= heap[0][0][0]):
                table = waiting.pop()
                if table.largest >= start:
                    push(self._open(table.path).entries(start), len(waiting))
            if heap:
                entry, number, entries = heapq.heappop(heap)
                yield entry
                push(entries, number)

    def _check_open(self) -> None:
        if self._closed:
            raise DataError(f"cannot read LevelDB {self.source}: it is closed")

    def close(self) -> None:
        """Close the files."""
        self._closed = True
        self._tables, self._newest, self._smallest, self._reach = [], [], [], []
        self._open.cache_clear()

    def __enter__(self) -> LevelDbReader:
        return self

    def __exit__(self, *_) -> None:
        self.close()
