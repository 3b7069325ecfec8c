"""Prefetching: a thread fills a short queue while the net computes."""

from __future__ import annotations

import copy
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """A thread that calls `produce` repeatedly and queues up to `depth` results; `get` returns them in order.

    An exception in `produce` is raised by the `get` for that result, and by every later one.  `produce` must not
    reference the Prefetcher or its owner, so that both can be garbage-collected; the thread ends then, or at `close`.
    A forked process does not have the thread: there `left_behind` is True, and a new Prefetcher must be created.

    depth: number of results queued, at least 1 (default 4).
    """

    def __init__(self, produce: Callable[[], T], depth: int = 4) -> None:
        self._shared = _Shared(produce, max(1, depth))
        self._finalizer = weakref.finalize(self, _Shared.stop, self._shared)

    def get(self) -> T:
        """Return the next result; block until it is available.  RuntimeError when closed, and in a forked process."""
        return self._shared.take()

    @property
    def left_behind(self) -> bool:
        """Whether the thread runs in the parent process, which this one was forked from."""
        return self._shared.process != os.getpid()

    def close(self) -> None:
        """Stop the thread and drop the queued results."""
        self._finalizer()


class _Shared(Generic[T]):
    """The state shared by the thread and its Prefetcher."""

    def __init__(self, produce: Callable[[], T], depth: int) -> None:
        self._produce, self._depth, self.process = produce, depth, os.getpid()
        self._queue: deque[T] = deque()
        self._error: BaseException | None = None
        self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="minicaffe-prefetch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or len(self._queue) < self._depth)
                if self._stopped:
                    return
            try:
                result = self._produce()
            except BaseException as error:  # raised by `take`, in the consumer's thread
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._queue.append(result)
                self._changed.notify_all()

    def take(self) -> T:
        """Remove and return the next result, or raise the error of `produce`."""
        if self.process != os.getpid():
            raise RuntimeError("this Prefetcher's thread is not in a process that was forked: make another Prefetcher")
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._error or self._stopped)
            if self._queue and not self._stopped:
                result = self._queue.popleft()
                self._changed.notify_all()
                return result
            if self._error is not None:
                raise _copied(self._error)
            raise RuntimeError("this Prefetcher is closed")

    def stop(self) -> None:
        """Stop the thread, wait for its end, and drop the queued results and the error."""
        if self.process != os.getpid():
            return  # forked: there is no thread, and it may have held the lock at the fork
        with self._changed:
            self._stopped = True
            self._queue.clear()
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._error = None  # its traceback refers to what `produce` used


def _copied(error: BaseException) -> BaseException:
    """Return a copy to raise: the traceback of a raised exception refers to the frames of its consumer.

    The finalizer of a Prefetcher refers to the original, so these would never be freed.
    """
    copied = copy.copy(error).with_traceback(error.__traceback__)
    copied.__cause__ = error.__cause__
    return copied
