"""Changes of HDF5 files: of the numbers in their structures, with the checksums of newer formats corrected."""

from __future__ import annotations

import re
import struct

from fuzz.mutate import INTEGERS, Rng, flip, pick

_STRUCTURES = re.compile(
    rb"\x89HDF\r\n\x1a\n|TREE|HEAP|SNOD|GCOL|OHDR|OCHK|FRHP|FHDB|FHIB|BTHD|BTLF|BTIN|EAHD|FAHD|FADB"
)
_MASK = 0xFFFFFFFF


def change_hdf5(rng: Rng, content: bytes) -> bytes:
    """Change one to four numbers in the structures of a file, or, one time in ten, any bytes."""
    if rng.random() < 0.1:
        return flip(rng, content)
    data = bytearray(content)
    places = _places(content)
    for _ in range(int(rng.integers(1, 5))):
        _change_number(rng, data, pick(rng, places))
    if rng.random() < 0.05:
        del data[int(rng.integers(len(data))) :]
    return _with_checksums(data)


def _places(content: bytes) -> list[int]:
    """Return offsets near which the structures of a file are: signatures, and headers of objects (format 1)."""
    places = [match.start() for match in _STRUCTURES.finditer(content)]
    for at in range(0, len(content) - 16, 8):
        version, zero, messages, references, size = struct.unpack_from("<BBHII", content, at)
        if version == 1 and zero == 0 and 0 < messages < 64 and references == 1 and 0 < size < 4096:
            places += [at, at + 16, at + size // 2, at + size // 2]
    return places


def _change_number(rng: Rng, data: bytearray, place: int) -> None:
    """Overwrite 1, 2, 4 or 8 bytes near a structure: an odd number, a near one, or another number of the file."""
    length = int(pick(rng, [1, 1, 2, 4, 8]))
    step = length if rng.random() < 0.8 else 1
    at = place + step * int(rng.integers(0, max(1, 200 // step)))
    if at + length > len(data):
        return
    old = int.from_bytes(data[at : at + length], "little")
    match int(rng.integers(5)):
        case 0:
            number = pick(rng, INTEGERS)
        case 1:
            number = old + int(rng.integers(-3, 4))
        case 2:
            number = int(rng.integers(256))
        case 3:
            number = 8 * int(rng.integers(len(data) // 8 + 1))
        case _:
            other = 8 * int(rng.integers(max(1, len(data) // 8)))
            number = int.from_bytes(data[other : other + length], "little")
    data[at : at + length] = (number & (1 << 8 * length) - 1).to_bytes(length, "little")


# -- checksums ---------------------------------------------------------------------------------------------------------


def _with_checksums(data: bytearray) -> bytes:
    """Correct the checksums of superblock and object headers (format 2)."""
    if len(data) > 48 and data[8] in (2, 3):
        data[44:48] = _lookup3(bytes(data[:44])).to_bytes(4, "little")
    for match in re.finditer(b"OHDR", bytes(data)):
        at, flags = match.start(), data[match.start() + 5] if match.start() + 5 < len(data) else 0
        head = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        end = at + head + width + int.from_bytes(data[at + head : at + head + width], "little")
        if end + 4 <= len(data) and end - at < 4096:
            data[end : end + 4] = _lookup3(bytes(data[at:end])).to_bytes(4, "little")
    return bytes(data)


def _rotate(x: int, k: int) -> int:
    return (x << k | x >> (32 - k)) & _MASK


def _lookup3(key: bytes) -> int:
    """Return the checksum of HDF5's metadata (Bob Jenkins, lookup3, hashlittle with initial value 0)."""
    a = b = c = (0xDEADBEEF + len(key)) & _MASK
    at = 0
    while len(key) - at > 12:
        a, b, c = _add(a, b, c, key[at : at + 12])
        for k in (4, 6, 8, 16, 19, 4):  # each of the three in turn
            a, b, c = b, (c + b) & _MASK, ((a - c) & _MASK) ^ _rotate(c, k)
        at += 12
    if at == len(key):
        return c
    a, b, c = _add(a, b, c, key[at:].ljust(12, b"\0"))
    for k in (14, 11, 25, 16, 4, 14, 24):
        a, b, c = b, ((c ^ b) - _rotate(b, k)) & _MASK, a
    return b


def _add(a: int, b: int, c: int, words: bytes) -> tuple[int, int, int]:
    x, y, z = struct.unpack("<III", words)
    return (a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK
