"""CRC-32C (Castagnoli), the checksum of LevelDB and TFRecord files, in numpy for many pieces at once.

A CRC is linear: crc(A + B) = shift(crc(A), len(B)) xor crc(B).  So every piece is divided into rows of 1024 bytes, the
CRCs of all rows are computed together, one byte column at a time, and then combined row by row.  For few bytes, a plain
loop is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

_POLYNOMIAL = 0x82F63B78
_ROW = 1024
_FEW = 8192  # bytes for which a plain loop is faster


@cache
def _byte_table() -> np.ndarray:
    table: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


@cache
def _byte_list() -> list[int]:
    return _byte_table().tolist()


@cache
def _shift_tables() -> list[list[int]]:
    """Tables, one per byte of a CRC, of the effect of appending a row of zeros."""
    table = _byte_table()
    crc = np.arange(256, dtype=np.uint32)[None, :] << np.uint32(8) * np.arange(4, dtype=np.uint32)[:, None]
    for _ in range(_ROW):
        crc = table[crc & 0xFF] ^ (crc >> np.uint32(8))
    return crc.tolist()


def crc32c(pieces: Sequence[bytes]) -> list[int]:
    """Return the CRC-32C of each of the pieces."""
    if sum(map(len, pieces)) < _FEW:
        return [_plain(piece) for piece in pieces]
    rows = [max(1, -(-len(piece) // _ROW)) for piece in pieces]
    matrix = np.zeros((sum(rows), _ROW), np.uint8)
    starts = []  # rows are padded with zeros in front, which do not change a CRC that starts from 0
    row = 0
    for piece, count in zip(pieces, rows, strict=True):
        flat = matrix[row : row + count].reshape(-1)
        start = flat.size - len(piece)
        flat[start:] = np.frombuffer(piece, np.uint8)
        flat[start : start + 4] ^= 0xFF  # equivalent to the initial value 0xFFFFFFFF
        starts.append(row)
        row += count
    table, crc = _byte_table(), np.zeros(len(matrix), np.uint32)
    for column in np.ascontiguousarray(matrix.T):
        crc = table[(crc ^ column) & 0xFF] ^ (crc >> np.uint32(8))
    t0, t1, t2, t3 = _shift_tables()
    result = []
    for start, count, piece in zip(starts, rows, pieces, strict=True):
        total = 0
        for value in crc[start : start + count].tolist():
            total = t0[total & 255] ^ t1[total >> 8 & 255] ^ t2[total >> 16 & 255] ^ t3[total >> 24] ^ value
        result.append(_plain(piece) if len(piece) < 4 else total ^ 0xFFFFFFFF)
    return result


def _plain(piece: bytes) -> int:
    """Return the CRC-32C of a short piece; with less than four bytes, the initial value does not fit into the data."""
    crc, table = 0xFFFFFFFF, _byte_list()
    for byte in piece:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """Mask a CRC as LevelDB and TFRecord store it; the CRC of data that contains CRCs would be a weak checksum."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
