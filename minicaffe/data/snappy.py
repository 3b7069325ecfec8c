"""Decompression of Snappy blocks, the compression of LevelDB files.

Format: the length as a varint, then literals and copies of earlier output (google/snappy, format_description.txt).
"""

from __future__ import annotations


def decompress(data: bytes | memoryview) -> bytes:
    """Decompress one block; ValueError when the block is damaged."""
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
        if kind == 1:
            length, offset, extra = ((tag >> 2) & 7) + 4, (tag >> 5) << 8 | data[position], 1
        else:
            extra = 2 if kind == 2 else 4
            length, offset = (tag >> 2) + 1, int.from_bytes(data[position : position + extra], "little")
        position += extra
        _copy(output, offset, length)
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


def read_varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Decode a little-endian base-128 number; return it and the position after it."""
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
