"""Reader of LevelDB databases, without the LevelDB library.

The library's Python wheels are not available for all versions of Python, and it locks a database, so that a train and a
test net cannot share one.  A database is a folder of sorted tables (*.ldb, *.sst), a log of the newest writes (*.log),
and a manifest, itself a log, that lists the valid tables.  `CURRENT` names the manifest.  Formats: doc/table_format.md,
doc/log_format.md and doc/impl.md of google/leveldb.
"""

from __future__ import annotations

import functools
import heapq
import mmap
import os
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from minicaffe.data.snappy import decompress, read_varint
from minicaffe.errors import DataError

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_LOG_BLOCK = 32768
_PUT = 1  # kind of an entry that stores a value; 0 deletes
_COMPARATOR, _LOG_NUMBER, _NEXT_FILE, _LAST_SEQUENCE, _COMPACT = 1, 2, 3, 4, 5  # tags in the manifest
_DELETED, _NEW_FILE, _PREVIOUS_LOG = 6, 7, 9

_TABLES_OPEN = 64  # the largest number of tables open at a time

Entry = tuple[bytes, int, bytes]  # user key; -(sequence << 8 | kind), so the newest of equal keys sorts first; value


def log_records(path: str) -> Iterator[bytes]:
    """Iterate over the records of a log file, joined from their fragments; stop at an incomplete end."""
    with open(path, "rb") as file:
        data = file.read()
    position = 0
    parts: list[bytes] = []
    while position + 7 <= len(data):
        left = _LOG_BLOCK - position % _LOG_BLOCK
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        fragment = data[position + 7 : position + 7 + length]
        if kind == 0 or len(fragment) < length:
            return
        position += 7 + length
        parts = [fragment] if kind in (1, 2) else [*parts, fragment]
        if kind in (1, 4):
            yield b"".join(parts)


def _read_slice(data: bytes | memoryview, position: int) -> tuple[bytes, int]:
    length, position = read_varint(data, position)
    return bytes(data[position : position + length]), position + length


def _read_manifest(path: str) -> tuple[dict[int, tuple[int, bytes, bytes]], int, int]:
    """Return the valid tables, {number: (size, smallest key, largest key)}, and the numbers of two logs.

    Logs with at least the first number, or equal to the second (0: none), hold writes that are not in tables.
    """
    tables: dict[int, tuple[int, bytes, bytes]] = {}
    log_number = previous = 0
    for record in log_records(path):
        position = 0
        while position < len(record):
            tag, position = read_varint(record, position)
            if tag == _COMPARATOR:
                _, position = _read_slice(record, position)
            elif tag == _LOG_NUMBER:
                log_number, position = read_varint(record, position)
            elif tag == _PREVIOUS_LOG:
                previous, position = read_varint(record, position)
            elif tag in (_NEXT_FILE, _LAST_SEQUENCE):
                _, position = read_varint(record, position)
            elif tag == _COMPACT:
                _, position = read_varint(record, position)
                _, position = _read_slice(record, position)
            elif tag in (_DELETED, _NEW_FILE):
                _, position = read_varint(record, position)
                number, position = read_varint(record, position)
                if tag == _DELETED:
                    tables.pop(number, None)
                    continue
                size, position = read_varint(record, position)
                smallest, position = _read_slice(record, position)
                largest, position = _read_slice(record, position)
                tables[number] = (size, smallest[:-8], largest[:-8])
            else:
                raise ValueError(f"unknown tag {tag}")
    return tables, log_number, previous


def _read_log(path: str) -> Iterator[Entry]:
    """Iterate over the entries of a write-ahead log."""
    for batch in log_records(path):
        sequence, count = struct.unpack_from("<QI", batch)
        position = 12
        for number in range(sequence, sequence + count):
            kind, value = batch[position], b""
            key, position = _read_slice(batch, position + 1)
            if kind == _PUT:
                value, position = _read_slice(batch, position)
            yield key, -(number << 8 | kind), value


def block_entries(block: bytes | memoryview) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over (key, value) of one block; keys are stored without the prefix shared with the previous key."""
    end = len(block) - 4 - 4 * struct.unpack_from("<I", block, len(block) - 4)[0]
    position, key = 0, b""
    while position < end:
        shared, position = read_varint(block, position)
        rest, position = read_varint(block, position)
        length, position = read_varint(block, position)
        key = key[:shared] + bytes(block[position : position + rest])
        position += rest
        yield key, bytes(block[position : position + length])
        position += length


class _Table(NamedTuple):
    """The file of one sorted table, and the range of its user keys."""

    path: str
    smallest: bytes
    largest: bytes


class _OpenTable:
    """An open table: the file is memory-mapped, the index is read."""

    def __init__(self, path: str) -> None:
        self._name = os.path.basename(path)
        with open(path, "rb") as file:
            self._data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        footer = self._data[-_FOOTER:]
        if struct.unpack_from("<Q", footer, _FOOTER - 8)[0] != _MAGIC:
            raise ValueError(f"{self._name} does not end like a table")
        _, position = read_varint(footer, 0)
        _, position = read_varint(footer, position)
        index = list(block_entries(self._block(bytes(footer[position:]))))
        self._last = [key[:-8] for key, _ in index]  # an upper bound of the keys of each block
        self._handles = [handle for _, handle in index]

    def _block(self, handle: bytes) -> bytes | memoryview:
        offset, position = read_varint(handle, 0)
        size, _ = read_varint(handle, position)
        block, compression = self._data[offset : offset + size], self._data[offset + size]
        if compression > 1:
            raise ValueError(f"{self._name} uses compression {compression}; only 0 and 1 are known")
        return decompress(block) if compression else block

    def entries(self, start: bytes) -> Iterator[Entry]:
        """Iterate over the entries in order, from the first user key that is not less than `start`."""
        for handle in self._handles[bisect_left(self._last, start) :]:
            for key, value in block_entries(self._block(handle)):
                if key[:-8] >= start:
                    yield key[:-8], -int.from_bytes(key[-8:], "little"), value


class LevelDbReader:
    """A LevelDB open for reading, without a lock; its files are not modified.

    source: the folder.  DataError when it cannot be read, or when a table is missing or truncated.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._length: int | None = None
        self._closed = False
        self._open = functools.lru_cache(_TABLES_OPEN)(_OpenTable)
        try:
            with open(os.path.join(source, "CURRENT")) as file:
                manifest = os.path.join(source, file.read().strip())
            tables, log_number, previous = _read_manifest(manifest)
            files = os.listdir(source)
            self._tables = sorted((self._table(n, *t) for n, t in tables.items()), key=lambda table: table.smallest)
            self._smallest = [table.smallest for table in self._tables]
            self._reach = list(accumulate((table.largest for table in self._tables), max))  # running maximum
            logs = sorted(name for name in files if name.endswith(".log") and name[:-4].isdigit())
            logs = [n for n in logs if int(n[:-4]) >= log_number or (previous and int(n[:-4]) == previous)]
            self._newest = sorted(e for name in logs for e in _read_log(os.path.join(source, name)))
        except (OSError, ValueError, IndexError, struct.error) as error:
            raise DataError(f"cannot read LevelDB {source}: {error}") from error

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
        try:
            for key, order, value in self._merged(start):
                if key != previous:  # older entries of the same key follow the newest
                    previous = key
                    if -order & 0xFF == _PUT:
                        yield key, value
        except (OSError, ValueError, IndexError, struct.error) as error:
            raise DataError(f"cannot read LevelDB {self.source}: {error}") from error

    def keys(self) -> list[bytes]:
        """Return all keys in order; keys and values are stored together, so this reads the whole database."""
        return [key for key, _ in self.items()]

    def get(self, key: bytes) -> bytes:
        """Return the value of a key; DataError when there is no such record."""
        self._check_open()
        try:
            newest = min(self._versions(key), default=(key, 0, b""))
        except (OSError, ValueError, IndexError, struct.error) as error:
            raise DataError(f"cannot read LevelDB {self.source}: {error}") from error
        if -newest[1] & 0xFF != _PUT:
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
