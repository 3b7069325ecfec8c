"""What tables of convolutions have in common: shapes with three spatial axes, divisors, plans for pairs of shapes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import numpy as np

from minicaffe.cuda.memory import DeviceBuffer

MOST_AXES = 3  # spatial axes that the kernels support
T = TypeVar("T")


def with_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape (N, C, *size) with MOST_AXES spatial axes; the added ones come first and have one place."""
    return *shape[:2], *(1,) * (MOST_AXES + 2 - len(shape)), *shape[2:]


def divisor(by: int) -> tuple[int, int, int]:
    """`by`, and the factor and shift by which kernels divide n below 2^31 by it: ((n * factor >> 32) + n) >> shift.

    by: from 1 to 2^31 - 1.
    """
    shift = (by - 1).bit_length()
    return by, (((1 << shift) - by) << 32) // by + 1, shift


def aligned(*arrays: Any) -> bool:
    """Whether 16 bytes at a time can be read and written at these addresses; 0: an array that is missing."""
    return not any(int(array) % 16 for array in arrays)


def uploaded(rows: Any) -> DeviceBuffer:
    """A table of whole numbers as 32-bit numbers on the device."""
    array = np.ascontiguousarray(np.asarray(rows, np.int64).astype(np.int32))
    buffer = DeviceBuffer(max(array.nbytes, 16))
    buffer.from_host(array)
    return buffer


def device_window(window: Any, size: tuple[int, ...], output: tuple[int, ...]) -> DeviceBuffer:
    """The `Window` of window.cuh on the device: one over up to MOST_AXES spatial axes."""
    added = (1,) * (MOST_AXES - len(size))
    return uploaded([added + size, added + output, *window.with_axes(MOST_AXES)])


class Plans(Generic[T]):
    """What one layer has made for each of its last `most` keys, such as pairs of shapes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._made: dict[Hashable, T] = {}  # the last one that was used is last

    def __len__(self) -> int:
        return len(self._made)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` returned for this key, which it is called for unless that is kept."""
        if key in self._made:
            plan = self._made.pop(key)
        else:
            plan = make()
            if len(self._made) >= self._most:
                del self._made[next(iter(self._made))]
        self._made[key] = plan
        return plan
