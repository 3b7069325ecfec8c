"""The random streams of layers, and their seed.

Each layer has its own `Stream` (minicaffe.philox), so that its random numbers do not depend on other layers.  The state
of a stream is a few integers, which are saved in snapshots, so that a resumed run draws the same numbers as an
uninterrupted one.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator

from minicaffe import forks
from minicaffe.core.settings import PerThread
from minicaffe.philox import Stream


class _Source:
    """A factory of streams: the same seed gives the same streams in the same order."""

    def __init__(self, seed: int, rank: int = 0) -> None:
        self._seed, self._rank, self._next = seed, rank, 0
        self._lock = forks.renewed(threading.Lock())

    def stream(self) -> Stream:
        """Return the next stream."""
        with self._lock:
            self._next += 1
            return Stream(self._seed, self._next, self._rank)


class _Sources:
    """The source of each thread: its own after `set_random_seed`, otherwise the main thread's."""

    source = PerThread(_Source(secrets.randbits(63)))


_sources = _Sources()


def set_random_seed(seed: int, rank: int = 0) -> None:
    """Seed all streams that this thread creates from now on (`random_seed` of a solver, or a script).

    seed: an int.  rank: index of the solver in distributed training, which is added to the seed (default 0).
    Without a seed, each process uses a random one.  Threads without a seed use the main thread's source.
    """
    _sources.source = _Source(int(seed), int(rank))


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the streams that this thread creates inside the block; those after it are as without the block."""
    before = _sources.source
    set_random_seed(seed)
    try:
        yield
    finally:
        _sources.source = before


def new_stream() -> Stream:
    """Return the next stream of this thread; every layer takes one when it is created."""
    return _sources.source.stream()
