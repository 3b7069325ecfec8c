"""The random streams of layers, and the seed that they follow from.

Each layer that draws has a `Stream` (minicaffe.philox) of its own, so that no layer's draws depend on another's; a
stream's state is a handful of integers, so a snapshot can hold it and a resumed run goes on with the numbers an
uninterrupted one would have drawn.
"""

from __future__ import annotations

import secrets
import threading

from minicaffe import forks
from minicaffe.core.settings import PerThread
from minicaffe.philox import Stream


class _Source:
    """Hands out streams: the same seed gives the same streams in the same order."""

    def __init__(self, seed: int) -> None:
        self._seed, self._next = seed, 0
        self._lock = forks.renewed(threading.Lock())

    def stream(self) -> Stream:
        with self._lock:
            self._next += 1
            return Stream(self._seed, self._next)


class _Sources:
    """The source of each thread: the one it has seeded, else the main thread's."""

    source = PerThread(_Source(secrets.randbits(63)))


_sources = _Sources()


def set_random_seed(seed: int) -> None:
    """Seed every stream that this thread makes from now on (`solver.random_seed`, or a script).

    Without it each process differs.  Threads that have not seeded draw from the main thread's streams.
    """
    _sources.source = _Source(int(seed))


def new_stream() -> Stream:
    """The thread's next stream: one for each layer, in the order in which they are built."""
    return _sources.source.stream()
