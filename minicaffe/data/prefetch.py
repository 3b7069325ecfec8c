"""Reading ahead: a thread fills a short queue while the net computes."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Calls `produce` in a thread, up to `depth` results ahead; `get` hands them out in order.

    What `produce` raises is raised by the `get` that would have had its result, and by every later one.  `produce`
    must not refer to the Prefetcher or its owner, so that both can be collected; then, or at `close`, the thread
    ends.  A process that is forked has no such thread: there `left_behind` is True, and a new Prefetcher is needed.
    """

    def __init__(self, produce: Callable[[], T], depth: int = 4) -> None:
        self._shared = _Shared(produce, max(1, depth))
        self._finalizer = weakref.finalize(self, _Shared.stop, self._shared)

    def get(self) -> T:
        """The next result; waits for it if the thread is behind."""
        return self._shared.take()

    @property
    def left_behind(self) -> bool:
        """Whether the thread belongs to the process that this one was forked from."""
        return self._shared.process != os.getpid()

    def close(self) -> None:
        """End the thread; what it has read ahead is dropped."""
        self._finalizer()


class _Shared(Generic[T]):
    """What the thread and its Prefetcher both hold."""

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
            except BaseException as error:  # to be raised where the result is asked for
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._queue.append(result)
                self._changed.notify_all()

    def take(self) -> T:
        if self.process != os.getpid():
            raise RuntimeError("this Prefetcher's thread is not in a process that was forked: make another Prefetcher")
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._error or self._stopped)
            if self._queue and not self._stopped:
                result = self._queue.popleft()
                self._changed.notify_all()
                return result
            if self._error is not None:
                raise self._error
            raise RuntimeError("this Prefetcher is closed")

    def stop(self) -> None:
        if self.process != os.getpid():
            return  # the thread is not here, and may have held the lock when the process was forked
        with self._changed:
            self._stopped = True
            self._queue.clear()
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join()
