"""Locks in processes that are forked.

A thread that holds a lock while another thread forks is not in the child, where nothing would release that lock.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, TypeVar

Lock = TypeVar("Lock", bound=Any)

_held: list[Any] = []
_renewed: weakref.WeakSet = weakref.WeakSet()


def held(lock: Lock) -> Lock:
    """The RLock itself; a fork waits for it and holds it, so that no child finds half of what it protects."""
    _held.append(lock)
    return lock


def renewed(lock: Lock) -> Lock:
    """The lock itself; a child finds it free, even if a thread of the parent holds it.

    For sections that a thread may begin anew where another one was in the middle.
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
