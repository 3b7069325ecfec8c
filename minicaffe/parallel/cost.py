"""The cost of a sum over a group: a time per call, and a time per byte."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from minicaffe.parallel.group import Group

LARGE = 4 << 20  #: bytes of the large sum that `measure` times


class Cost(NamedTuple):
    """The time of `Group.sum` for arrays of n bytes: alpha + beta * n (the Hockney model).

    alpha: seconds per call.  beta: seconds per byte.
    """

    alpha: float
    beta: float

    def seconds(self, nbytes: int) -> float:
        """Return the time of one sum of so many bytes."""
        return self.alpha + self.beta * nbytes


def measure(group: Group, nbytes: int = LARGE, repeat: int = 5) -> Cost:
    """Time a sum of one number and a sum of `nbytes` bytes, and return what follows, the same at all ranks.

    repeat: how often each is timed; the smallest time counts (default: 5).
    Collective.  The times are the root's.  A group of one process costs nothing.
    """
    if group.size == 1:
        return Cost(0.0, 0.0)
    small, large = np.zeros(1, np.float32), np.zeros(max(nbytes // 4, 2), np.float32)
    alpha, most = (_fastest(group, array, repeat) for array in (small, large))
    return Cost(*group.share([alpha, max(most - alpha, 0.0) / (large.nbytes - small.nbytes)]))


def _fastest(group: Group, array: np.ndarray, repeat: int) -> float:
    """Return the smallest time of `repeat` sums, after one that is not counted."""
    times = []
    for _ in range(repeat + 1):
        began = time.perf_counter()
        group.sum(array)
        times.append(time.perf_counter() - began)
    return min(times[1:])
