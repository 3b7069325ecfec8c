"""Numbers in little-endian base 128, as protobuf, LevelDB and snappy write them: seven bits in each byte."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """Encode a number that is not negative; the highest bit of a byte is set if another follows."""
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def read_varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Decode a little-endian base-128 number of at most 64 bits; return it and the position after it.

    ValueError when the data end before it or it is longer.
    """
    if position < len(data) and data[position] < 0x80:  # most are one byte
        return data[position], position + 1
    number = 0
    for shift, byte in enumerate(data[position : position + 10]):
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80 and number >> 64 == 0:
            return number, position + shift + 1
    raise ValueError("a number in it has more than 64 bits, or is cut off")
