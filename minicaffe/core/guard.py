"""Mutual exclusion of threads that run a net: a second thread gets an error instead of a mixture of two passes."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from minicaffe import forks
from minicaffe.errors import NetError

F = TypeVar("F", bound=Callable[..., Any])


class Guard:
    """A reentrant context manager for one thread at a time; entering raises NetError instead of waiting.

    name: name of the guarded object in error messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = forks.renewed(threading.Lock())
        self._thread, self._depth = 0, 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        if self._thread != me:
            if not self._lock.acquire(blocking=False):
                raise self._refusal()
            self._thread, self._depth = me, 0
        self._depth += 1

    def check(self) -> None:
        """Raise `NetError` if another thread is inside."""
        if self._thread not in (0, threading.get_ident()) and self._lock.locked():
            raise self._refusal()

    def _refusal(self) -> NetError:
        return NetError(
            f"{self.name} is being run by another thread: give each thread a net of its own (share_with lets them use "
            "one set of weights), or hold a lock from filling in the inputs until the outputs are copied"
        )

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._thread = 0
            self._lock.release()


def guarded(method: F) -> F:
    """Decorator for methods of an object whose `guard` is a Guard: the method runs inside `self.guard`."""

    @functools.wraps(method)
    def entered(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.guard:
            return method(self, *args, **kwargs)

    return entered  # type: ignore[return-value]  # it has the signature of `method`
