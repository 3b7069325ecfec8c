"""The collective calls of a group, as the ranks state them to each other: ranks at different calls are an error."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from minicaffe.errors import ParallelError

_RECORD = struct.Struct("!10s8sQ")  # kind, dtype, length


class Call(NamedTuple):
    """A collective call.

    kind: "sum", "broadcast", "gather" or "share".  dtype, length: of the array, such as "<f4"; "", 0 without one.
    """

    kind: str
    dtype: str = ""
    length: int = 0

    @classmethod
    def on(cls, kind: str, array: np.ndarray) -> Call:
        """Return the call that exchanges a flat array."""
        return cls(kind, array.dtype.str, array.size)

    def packed(self) -> bytes:
        """Return the call as `SIZE` bytes."""
        return _RECORD.pack(self.kind.encode(), self.dtype.encode(), self.length)

    @classmethod
    def unpacked(cls, record: bytes | bytearray) -> Call:
        """Return the call of `packed` bytes."""
        kind, dtype, length = _RECORD.unpack(record)
        return cls(_text(kind), _text(dtype), length)

    def __str__(self) -> str:
        if not self.dtype:
            return f"a {self.kind} of values"
        return f"a {self.kind} of {self.length} {np.dtype(self.dtype).name} numbers"


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("ascii", "replace")


SIZE = _RECORD.size  #: bytes of `Call.packed`


def difference(rank: int, call: Call, other_rank: int, other: Call) -> ParallelError:
    """Return the error of two ranks that are at different calls."""
    return ParallelError(
        f"the ranks are at different calls: rank {rank} at {call}, rank {other_rank} at {other}; "
        "all ranks need the same net, solver and number of iterations"
    )


def parts(array: np.ndarray, limit: int) -> Iterator[np.ndarray]:
    """Yield views of a flat array, in order, each of at most `limit` bytes (and at least one element)."""
    count = max(limit // array.itemsize, 1)
    for start in range(0, array.size, count):
        yield array[start : start + count]


def bytes_of(array: np.ndarray) -> memoryview:
    """Return the bytes of a flat, contiguous array, as a view."""
    return array.view(np.uint8).data
