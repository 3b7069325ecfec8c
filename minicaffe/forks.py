"""Locks that stay usable after `os.fork`.

A forked child has only the thread that called fork.  If another thread of the parent held a lock at that moment, the
child's copy of the lock would never be released.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, TypeVar

Lock = TypeVar("Lock", bound=Any)

_held: list[Any] = []
_renewed: weakref.WeakSet = weakref.WeakSet()


def held(lock: Lock) -> Lock:
    """Register an RLock and return it: it is acquired before a fork, so a child never inherits an incomplete update."""
    _held.append(lock)
    return lock


def renewed(lock: Lock) -> Lock:
    """Register a lock and return it: it is unlocked in a forked child, even if a thread of the parent holds it.

    For critical sections that can safely be started again after an interrupted run of the same section.
    """
    _renewed.add(lock)
    return lock


def _before() -> None:
    for lock in _held:
        lock.acquire()


def _after() -> None:
    for lock in reversed(_held):
        lock.release()


def _after_in_child() -> None:
    _after()
    for lock in list(_renewed):
        lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
