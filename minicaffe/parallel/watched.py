"""A group whose collective calls are measured for the watch: how long this rank waits in them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minicaffe.errors import ParallelError
from minicaffe.parallel.group import Group
from minicaffe.parallel.watch import Watch

GRACE_SECONDS = 1.0  #: how long a rank that has lost the connection to another one waits for that one's sentence


class Watched(Group):
    """A group, and the watch over its ranks.

    Calls of other threads, as on a channel that sums while this thread computes, are not measured.

    group: the group that makes the calls.  watch: its `Watch`.
    """

    def __init__(self, group: Group, watch: Watch) -> None:
        super().__init__(group.rank, group.size)
        self.group, self.watch = group, watch
        self.name = group.name
        self._thread = threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        """Return what only the group has, such as its communicator."""
        return getattr(self.group, name)

    def sum(self, array: np.ndarray) -> None:
        with self._call():
            self.group.sum(array)

    def broadcast(self, array: np.ndarray) -> None:
        with self._call():
            self.group.broadcast(array)

    def gather_bytes(self, content: bytes) -> list[bytes]:
        with self._call():
            return self.group.gather_bytes(content)

    def share_bytes(self, content: bytes) -> bytes:
        with self._call():
            return self.group.share_bytes(content)

    def duplicate(self) -> Group:
        with self._call():
            group = self.group.duplicate()
        return Watched(group, self.watch)

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        """Measure a collective call; if it fails since another rank has failed, the watch ends this process first."""
        measured = threading.get_ident() == self._thread
        with self.watch.pace.waiting() if measured else contextlib.nullcontext():
            try:
                yield
            except ParallelError:
                self.watch.fails_elsewhere(GRACE_SECONDS)
                raise

    def reached(self, iteration: int) -> None:
        self.watch.pace.reached(iteration)

    def on_loss(self, work: Callable[[], None]) -> None:
        self.watch.on_loss = work

    def pausing(self) -> contextlib.AbstractContextManager[None]:
        return self.watch.pace.pausing()

    def waiting(self) -> contextlib.AbstractContextManager[None]:
        return self.watch.pace.waiting()

    def close(self) -> None:
        super().close()
        self.group.close()
