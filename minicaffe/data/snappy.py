"""Decompression of Snappy blocks, the compression of LevelDB files.

Format: the length as a varint, then literals and copies of earlier output (google/snappy, format_description.txt).
"""

from __future__ import annotations

from minicaffe.varint import read_varint


def decompress(data: bytes | memoryview) -> bytes:
    """Decompress one block; ValueError when the block is damaged.

    The result has at most 64 bytes for every two of the data: a copy of 64 bytes takes three.
    """
    expected, position = read_varint(data, 0)
    output = bytearray()
    end = len(data)
    while position < end:
        tag = data[position]
        position += 1
        kind = tag & 3
        if kind == 0:  # a literal: its length is in the tag, or in the 1 to 4 bytes after it
            length = (tag >> 2) + 1
            if length > 60:
                extra = length - 60
                length = int.from_bytes(data[position : position + extra], "little") + 1
                position += extra
            output += data[position : position + length]
            position += length
            continue
        extra = (0, 1, 2, 4)[kind]
        offset = int.from_bytes(data[position : position + extra], "little")
        length = (tag >> 2) + 1
        if kind == 1:
            length, offset = ((tag >> 2) & 7) + 4, (tag >> 5) << 8 | offset
        position += extra
        _copy(output, offset, length)
    if position > end:
        raise ValueError("snappy block ends in the middle of a literal or a copy")
    if len(output) != expected:
        raise ValueError(f"snappy block holds {len(output)} bytes, expected {expected}")
    return bytes(output)


def _copy(output: bytearray, offset: int, length: int) -> None:
    """Append `length` bytes that start `offset` bytes before the end; an overlapping copy repeats a pattern."""
    start = len(output) - offset
    if offset == 0 or start < 0:
        raise ValueError("snappy block copies from before its start")
    if offset >= length:
        output += output[start : start + length]
    else:
        pattern = bytes(output[start:])
        output += (pattern * (length // offset + 1))[:length]
