"""Logs of a LevelDB: the manifest, which lists the valid tables, and the write-ahead log of the newest records.

Both are files of records in fragments that do not cross 32 KiB blocks.  Their checksums are not verified.
All functions raise ValueError for a damaged file.  Formats: doc/log_format.md and doc/impl.md of google/leveldb.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from minicaffe.files import read_bytes
from minicaffe.varint import read_varint

_LOG_BLOCK = 32768
_FULL, _FIRST, _LAST = 1, 2, 4  # kinds of fragments; 3: in the middle, 0: the end of the file
PUT = 1  #: kind of an entry that stores a value; 0 deletes
_DELETE = 0
_COMPARATOR, _LOG_NUMBER, _NEXT_FILE, _LAST_SEQUENCE, _COMPACT = 1, 2, 3, 4, 5  # tags in the manifest
_DELETED, _NEW_FILE, _PREVIOUS_LOG = 6, 7, 9

Entry = tuple[bytes, int, bytes]  # user key; -(sequence << 8 | kind), so the newest of equal keys sorts first; value


class TableRange(NamedTuple):
    """Size of a table's file, in bytes, and the range of its user keys."""

    size: int
    smallest: bytes
    largest: bytes


def read_current(folder: str) -> str:
    """Return the path of the manifest, which the file CURRENT names."""
    match = re.fullmatch(rb"\s*(MANIFEST-\d+)\s*", read_bytes(os.path.join(folder, "CURRENT")))
    if not match:
        raise ValueError("CURRENT does not name a manifest, such as MANIFEST-000002")
    return os.path.join(folder, match[1].decode())


def log_records(path: str | os.PathLike) -> Iterator[bytes]:
    """Iterate over the records of a log file, joined from their fragments; stop at an incomplete end."""
    data = read_bytes(path)
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
        if kind in (_FULL, _FIRST):
            parts = []
        parts.append(fragment)
        if kind in (_FULL, _LAST):
            yield b"".join(parts)
            parts = []


def _read_slice(data: bytes, position: int) -> tuple[bytes, int]:
    length, position = read_varint(data, position)
    if position + length > len(data):
        raise ValueError(f"a record ends before the {length} bytes of a key or value")
    return data[position : position + length], position + length


def read_manifest(path: str) -> tuple[dict[int, TableRange], int, int]:
    """Return the valid tables by number, and the numbers of two logs.

    Logs with at least the first number, or equal to the second (0: none), hold writes that are not in tables.
    """
    tables: dict[int, TableRange] = {}
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
                tables[number] = TableRange(size, smallest[:-8], largest[:-8])
            else:
                raise ValueError(f"the manifest has an unknown tag {tag}")
    return tables, log_number, previous


def log_entries(path: str) -> Iterator[Entry]:
    """Iterate over the entries of a write-ahead log, in the order of writing."""
    for batch in log_records(path):
        if len(batch) < 12:
            raise ValueError(f"{os.path.basename(path)} has a batch of {len(batch)} bytes, expected at least 12")
        sequence, count = struct.unpack_from("<QI", batch)
        position = 12
        for number in range(sequence, sequence + count):
            kind, position = read_varint(batch, position)
            key, position = _read_slice(batch, position)
            value = b""
            if kind == PUT:
                value, position = _read_slice(batch, position)
            elif kind != _DELETE:
                raise ValueError(f"{os.path.basename(path)} has an entry of unknown kind {kind}")
            yield key, -(number << 8 | kind), value
