"""Writer of LevelDB databases, readable by `leveldb.py` and by the LevelDB library.

Each table holds a few megabytes of sorted records.  If the ranges of the tables do not overlap, as when keys are
written in order, they are registered on level 1, where the library does not rewrite them; otherwise on level 0, where
the library permits overlap.
"""

from __future__ import annotations

import os
import struct
from itertools import pairwise

from minicaffe.data.crc32c import crc32c, masked
from minicaffe.varint import varint

_MAGIC = 0xDB4775248B80FB57
_LOG_BLOCK = 32768
_BLOCK = 65536  # Caffe's block_size
_TABLE = 8 << 20
_PUT = 1
_COMPARATOR, _LOG_NUMBER, _NEXT_FILE, _LAST_SEQUENCE, _NEW_FILE = 1, 2, 3, 4, 7


def _slice(data: bytes) -> bytes:
    return varint(len(data)) + data


def _block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Encode a block with complete keys: every entry is a restart point."""
    body, restarts = bytearray(), []
    for key, value in entries:
        restarts.append(len(body))
        body += b"\0" + varint(len(key)) + varint(len(value)) + key + value
    restarts = restarts or [0]
    return bytes(body) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table_bytes(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Encode a table of sorted (internal key, value): data blocks, meta index, index, footer."""
    blocks, index, current, size = [], [], [], 0
    for position, (key, value) in enumerate(entries):
        current.append((key, value))
        size += len(key) + len(value)
        if size >= _BLOCK or position == len(entries) - 1:
            blocks.append(_block(current))
            index.append(key)
            current, size = [], 0
    handles, offset = [], 0
    for block in blocks:
        handles.append(varint(offset) + varint(len(block)))
        offset += len(block) + 5
    meta_block, index_block = _block([]), _block(list(zip(index, handles, strict=True)))
    meta = varint(offset) + varint(len(meta_block))
    offset += len(meta_block) + 5
    footer = meta + varint(offset) + varint(len(index_block))
    blocks = [block + b"\0" for block in (*blocks, meta_block, index_block)]  # the byte 0: not compressed
    sums = [struct.pack("<I", masked(crc)) for crc in crc32c(blocks)]
    body = b"".join(part for pair in zip(blocks, sums, strict=True) for part in pair)
    return body + footer.ljust(40, b"\0") + struct.pack("<Q", _MAGIC)


def log_bytes(record: bytes) -> bytes:
    """Encode a log file of one record, in fragments that do not cross 32 KiB blocks."""
    output, first, rest = bytearray(), True, record
    while first or rest:
        room = _LOG_BLOCK - len(output) % _LOG_BLOCK - 7
        fragment, rest = rest[:room], rest[room:]
        kind = bytes([(1 if first else 4) if not rest else (2 if first else 3)])
        output += struct.pack("<IH", masked(crc32c([kind + fragment])[0]), len(fragment)) + kind + fragment
        first = False
    return bytes(output)


class LevelDbStore:
    """A new LevelDB in `folder`, which exists.  Nothing is flushed to the disk."""

    def __init__(self, folder: str) -> None:
        self._folder, self._sequence, self._number = folder, 0, 3
        self._records: dict[bytes, tuple[int, bytes]] = {}
        self._size = 0
        self._tables: list[tuple[int, int, bytes, bytes]] = []
        self._closed = False

    def write(self, records: list[tuple[bytes, bytes]]) -> None:
        """Store records; the value of an existing key is replaced."""
        for key, value in records:
            self._sequence += 1
            self._records[key] = (self._sequence, value)
            self._size += len(key) + len(value)
            if self._size >= _TABLE:
                self._flush()

    def _flush(self) -> None:
        """Write the buffered records as one table."""
        if not self._records:
            return
        entries = [
            (key + struct.pack("<Q", sequence << 8 | _PUT), value)
            for key, (sequence, value) in sorted(self._records.items())
        ]
        content = table_bytes(entries)
        with open(os.path.join(self._folder, f"{self._number:06d}.ldb"), "wb") as file:
            file.write(content)
        self._tables.append((self._number, len(content), entries[0][0], entries[-1][0]))
        self._number, self._records, self._size = self._number + 1, {}, 0

    def close(self) -> None:
        """Write the remaining records and the manifest."""
        if self._closed:
            return
        self._closed = True
        self._flush()
        pairs = pairwise(self._tables)
        level = 1 if all(before[3][:-8] < after[2][:-8] for before, after in pairs) else 0
        edit = bytes([_COMPARATOR]) + _slice(b"leveldb.BytewiseComparator")
        edit += bytes([_LOG_NUMBER]) + varint(self._number)
        edit += bytes([_NEXT_FILE]) + varint(self._number + 1) + bytes([_LAST_SEQUENCE]) + varint(self._sequence)
        for number, size, smallest, largest in self._tables:
            edit += bytes([_NEW_FILE, level]) + varint(number) + varint(size) + _slice(smallest) + _slice(largest)
        with open(os.path.join(self._folder, "MANIFEST-000002"), "wb") as file:
            file.write(log_bytes(edit))
        with open(os.path.join(self._folder, "CURRENT"), "wb") as file:
            file.write(b"MANIFEST-000002\n")
