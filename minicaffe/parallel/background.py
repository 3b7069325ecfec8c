"""Sums over a group in a thread, while the main thread computes."""

from __future__ import annotations

import os
import threading
import weakref
from queue import SimpleQueue

import numpy as np

from minicaffe.errors import ParallelError
from minicaffe.parallel.group import Group

_JOIN_SECONDS = 1.0  #: how long `close` waits for a thread that may be in a sum that never ends


class BackgroundSums:
    """A thread that sums arrays over a group, one after another, in the order in which they are added.

    group: a group that only this thread uses (`Group.channel`).
    The thread ends at `close`, or when this object is garbage-collected.  A forked process does not have it.
    """

    def __init__(self, group: Group) -> None:
        self._process = os.getpid()
        self._added: SimpleQueue[np.ndarray | None] = SimpleQueue()
        self._results: SimpleQueue[BaseException | None] = SimpleQueue()
        self._pending = 0  # arrays whose result has not been taken
        self._error: BaseException | None = None
        args = group, self._added, self._results
        self.thread = threading.Thread(target=_sum_all, args=args, name="minicaffe-sums", daemon=True)
        self.thread.start()
        self._finalizer = weakref.finalize(self, _stop, self._process, self.thread, self._added)

    def add(self, array: np.ndarray) -> None:
        """Sum a flat, contiguous array, in place; it is not to be used before `wait` has returned."""
        self._check()
        self._pending += 1
        self._added.put(array)

    def wait(self) -> None:
        """Wait until all arrays have been summed; raise the error of the first sum that failed, in every call."""
        self._check()
        while self._pending:
            error = self._results.get()
            self._pending -= 1
            self._error = self._error or error
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the thread."""
        self._finalizer()

    def _check(self) -> None:
        if os.getpid() != self._process:
            raise ParallelError("a process that was forked from a rank cannot train with the other ranks")
        if not self._finalizer.alive:
            raise ParallelError("the sums of this rank are closed")


def _sum_all(group: Group, added: SimpleQueue, results: SimpleQueue) -> None:
    """Sum what is added, until None is; nothing more after an error, which is the result of all further arrays."""
    failure: BaseException | None = None
    while (array := added.get()) is not None:
        if failure is None:
            try:
                group.sum(array)
            except BaseException as error:  # raised by `wait`, in the main thread
                failure = error
        results.put(failure)


def _stop(process: int, thread: threading.Thread, added: SimpleQueue) -> None:
    """End the thread; in a forked process there is none."""
    if os.getpid() == process:
        added.put(None)
        thread.join(_JOIN_SECONDS)
