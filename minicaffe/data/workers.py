"""Threads that share the records of a batch: Pillow and numpy release the GIL while they decode, resize and copy."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Protocol

from minicaffe.cores import cores

_MOST = 64  # threads: more than that wait for the interpreter lock


class Each(Protocol):
    """A way to call `work(0)`, ..., `work(count - 1)`; returns when all calls have returned.

    Calls may run at the same time and begin in ascending order.  After an exception no further call begins; the one
    with the smallest index is raised, which is the one that a loop would have raised.
    """

    def __call__(self, work: Callable[[int], None], count: int) -> None: ...


def in_turn(work: Callable[[int], None], count: int) -> None:
    """Call `work` in a loop, in the calling thread: an `Each` without other threads."""
    for index in range(count):
        work(index)


class Workers:
    """Threads that take part in `each`, an `Each`, beside the thread that calls it; several threads may call it.

    The threads start with the first call that has something for them.  They are daemonic, and end at `close` or when
    the object is garbage-collected.  A forked process does not have them: there `each` runs in the calling thread.

    threads: number of threads that work on one batch, the caller included, 64 at most; 0 (default): one for each core
        that the process may use.
    """

    def __init__(self, threads: int = 0) -> None:
        self._shared = _Shared(min(threads or cores(), _MOST) - 1)
        self._finalizer = weakref.finalize(self, _Shared.stop, self._shared)

    def each(self, work: Callable[[int], None], count: int) -> None:
        """Call `work(0)`, ..., `work(count - 1)` in the threads, see `Each`."""
        if count < 2 or not self._shared.start():
            in_turn(work, count)
            return
        job = _Job(work, count)
        self._shared.add(job)
        try:
            job.help()
            job.finish()
        finally:
            job.cancel()
            self._shared.remove(job)

    def close(self) -> None:
        """End the threads, after the calls that they have begun."""
        self._finalizer()


class _Job:
    """One call of `each`: which index is next, how many calls are running, and the first error."""

    def __init__(self, work: Callable[[int], None], count: int) -> None:
        self._work, self._next, self._end, self._running = work, 0, count, 0
        self._error: tuple[int, BaseException] | None = None
        self._changed = threading.Condition()

    def help(self) -> None:
        """Call `work` with one index after the other until none is left."""
        index = self._begin()
        while index is not None:
            error = None
            try:
                self._work(index)
            except BaseException as raised:  # raised again by `finish`, in the thread that called `each`
                error = raised
            self._complete(index, error)
            index = self._begin()

    def finish(self) -> None:
        """Wait for the calls that other threads have begun; raise the error of the smallest index."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running)
        if self._error is not None:
            (_, error), self._error = self._error, None  # else the job and the error's traceback would form a cycle
            try:
                raise error
            finally:
                del error

    def cancel(self) -> None:
        """Begin no further calls."""
        with self._changed:
            self._next = self._end

    def _begin(self) -> int | None:
        with self._changed:
            if self._next == self._end:
                return None
            self._next, self._running = self._next + 1, self._running + 1
            return self._next - 1

    def _complete(self, index: int, error: BaseException | None) -> None:
        with self._changed:
            self._running -= 1
            if error is not None:
                self._next = self._end
                if self._error is None or index < self._error[0]:
                    self._error = index, error
            if not self._running:
                self._changed.notify_all()


class _Shared:
    """The state shared by the threads and their Workers: jobs that may have calls left, oldest first."""

    def __init__(self, helpers: int) -> None:
        self._helpers, self._process = helpers, os.getpid()
        self._threads: list[threading.Thread] = []
        self._jobs: deque[_Job] = deque()
        self._stopped = False
        self._changed = threading.Condition()

    def start(self) -> bool:
        """Start the threads unless they run; return whether there are any."""
        if self._helpers < 1 or self._process != os.getpid():
            return False
        with self._changed:
            while len(self._threads) < self._helpers and not self._stopped:
                thread = threading.Thread(target=self._run, name="minicaffe-worker", daemon=True)
                thread.start()
                self._threads.append(thread)
            return not self._stopped

    def add(self, job: _Job) -> None:
        """Let the threads help with a job."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def remove(self, job: _Job) -> None:
        """Remove a job that has no calls left."""
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._jobs)
                if self._stopped:
                    return
                job = self._jobs[0]
            job.help()
            self.remove(job)
            del job  # it refers to the batch, which is to be freed while this thread waits

    def stop(self) -> None:
        """End the threads and wait for them."""
        if self._process != os.getpid():
            return  # forked: there are no threads, and one may have held the lock at the fork
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
