"""Sorted tables, the files in which a LevelDB holds its records.

A table is a sequence of blocks of entries (key, value), an index of the blocks, itself a block, and a footer.  The
checksums of blocks are not verified.  All functions raise ValueError for a damaged table.
Format: doc/table_format.md of google/leveldb.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from collections.abc import Iterator

from minicaffe.data.leveldb_log import Entry
from minicaffe.data.snappy import decompress
from minicaffe.files import RandomAccessFile
from minicaffe.limits import expands_too_far
from minicaffe.varint import read_varint

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_TRAILER = 5  # bytes after a block: the kind of compression, a checksum


def block_entries(block: bytes | memoryview) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over (key, value) of one block; keys are stored without the prefix shared with the previous key."""
    restarts = struct.unpack_from("<I", block, len(block) - 4)[0] if len(block) >= 4 else 1
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise ValueError(f"a block of {len(block)} bytes states {restarts} restart points")
    position, key, expanded, usual = 0, b"", 0, 100 * len(block)
    while position < end:
        shared, position = read_varint(block, position)
        rest, position = read_varint(block, position)
        length, position = read_varint(block, position)
        expanded += shared + rest
        if shared > len(key) or position + rest + length > end:
            raise ValueError("a block has a key or value that is longer than the block")
        if expanded > usual and expands_too_far(expanded, len(block)):
            raise ValueError(f"a block of {len(block)} bytes has keys of more than {expanded} bytes")
        key = key[:shared] + bytes(block[position : position + rest])
        position += rest
        yield key, bytes(block[position : position + length])
        position += length


class OpenTable:
    """An open table, whose index has been read.

    OSError when the file cannot be opened, DataError when it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._name, self._file = os.path.basename(path), RandomAccessFile(path)
        self._size = self._file.size - _FOOTER  # of all blocks
        if self._size < 0:
            raise ValueError(f"{self._name} is truncated: it has {self._size + _FOOTER} bytes, expected {_FOOTER}")
        footer = self._file.read(_FOOTER, self._size)
        if struct.unpack_from("<Q", footer, _FOOTER - 8)[0] != _MAGIC:
            raise ValueError(f"{self._name} does not end like a table")
        _, position = read_varint(footer, 0)
        _, position = read_varint(footer, position)
        self._last: list[bytes] = []  # an upper bound of the user keys of each block
        self._handles: list[tuple[int, int]] = []  # position and size of each block
        for key, handle in block_entries(self._block(*_handle(footer[position:]))):
            self._last.append(key[:-8])
            self._handles.append(_handle(handle))

    def _block(self, offset: int, size: int) -> bytes | memoryview:
        if offset + size + _TRAILER > self._size:
            raise ValueError(f"{self._name} is damaged: a block of {size} bytes begins at byte {offset}")
        content = memoryview(self._file.read(size + 1, offset))
        block, compression = content[:size], content[size]
        if compression > 1:
            raise ValueError(f"{self._name} uses compression {compression}; only 0 and 1 are known")
        return decompress(block) if compression else block

    def entries(self, start: bytes) -> Iterator[Entry]:
        """Iterate over the entries in order, from the first user key that is not less than `start`."""
        room = self._size
        for offset, size in self._handles[bisect_left(self._last, start) :]:
            room -= size + _TRAILER
            if room < 0:
                raise ValueError(f"{self._name} is damaged: its blocks are larger than the file")
            for key, value in block_entries(self._block(offset, size)):
                if len(key) < 8:
                    raise ValueError(f"{self._name} has a key of {len(key)} bytes, expected at least 8")
                if key[:-8] >= start:
                    yield key[:-8], -int.from_bytes(key[-8:], "little"), value


def _handle(data: bytes) -> tuple[int, int]:
    """Decode the position and the size of a block."""
    offset, position = read_varint(data, 0)
    return offset, read_varint(data, position)[0]
