"""Joining the group of processes that a launcher has started, and leaving it."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Iterator

from minicaffe.core import random
from minicaffe.core.settings import settings
from minicaffe.errors import MinicaffeError, ParallelError
from minicaffe.parallel.environment import launched
from minicaffe.parallel.group import ALONE, Group
from minicaffe.parallel.watch import Watch, reason
from minicaffe.parallel.watched import GRACE_SECONDS, Watched
from minicaffe.parallel.watching import watch_over

_EXPECTED = (MinicaffeError, OSError, ImportError, MemoryError)  #: what the command line prints in one sentence


def start(group: Group | None = None, watched: bool | None = None) -> Group:
    """Make this process, or thread, a rank: solvers that it builds from now on train with those of the other ranks.

    group: the group; None (default): that of the launcher (`mpiexec`, `srun`, `torchrun`, `minicaffe train --workers`),
        or `ALONE` without one.
    watched: whether the ranks are watched: if one of them fails, all processes end within seconds (watch.py).  None
        (default): if `group` is None.  False where ranks are threads of one process.  The same at all ranks.
    Sets `solver_rank`, `solver_count`, and a random seed that the ranks have in common.  Returns the group.
    Raises ParallelError if the other ranks cannot be reached.
    """
    watched = group is None if watched is None else watched
    group = launched() if group is None else group
    if watched and group.size > 1:
        group = Watched(group, watch_over(group))
    settings.group, settings.solver_count, settings.solver_rank = group, group.size, group.rank
    if group.size > 1:
        random.set_random_seed(group.share(secrets.randbits(62)), group.rank)
    return group


def current() -> Group:
    """Return the group that `start` has joined in this thread; `ALONE` if there is none."""
    return settings.group or ALONE


def stop() -> None:
    """End what `start` has begun: solvers that are built from now on train alone.

    With a watch, wait until all ranks call `stop`, or end their programs.  Called while an exception is on its way, as
    in `finally`, it does not wait: the watch ends all ranks if the exception ends this process.
    """
    watch = _watch()
    if watch is not None and sys.exc_info()[1] is None:
        watch.finish()
    if settings.group is not None:
        settings.group.close()
    settings.group, settings.solver_count, settings.solver_rank = None, 1, 0


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """End all ranks of a watched training when an exception leaves the block; at its end, call `stop`.

    `start` is called inside of the block, or before.  Rank 0 prints the error in one sentence that names the rank; if
    that is done, SystemExit replaces the error: with status 1, or 128 + the signal's number for a KeyboardInterrupt.
    An error of the program, which is none of minicaffe's, is raised again: the rank itself prints the traceback.
    Where no watch has been started, all exceptions pass, and are printed as those of one process.
    """
    try:
        yield
        stop()
    except BaseException as error:
        watch = _watch()
        if watch is not None and isinstance(error, SystemExit) and not error.code:
            watch.finish()
        elif watch is not None:
            _report(error, watch)
        raise


def _watch() -> Watch | None:
    """Return the watch of this thread's group; None if there is none."""
    return settings.group.watch if isinstance(settings.group, Watched) else None


def _report(error: BaseException, watch: Watch) -> None:
    """Report the error that ends this rank; raise SystemExit if its sentence is printed, and no traceback is needed."""
    what, status = reason(error)
    elsewhere = isinstance(error, ParallelError) and watch.fails_elsewhere(GRACE_SECONDS)
    printed = elsewhere or watch.fail(what, status)
    if printed and isinstance(error, (KeyboardInterrupt, *_EXPECTED)):
        raise SystemExit(status) from None
