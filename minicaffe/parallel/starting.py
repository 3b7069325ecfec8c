"""Joining the group of processes that a launcher has started."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

from minicaffe.core import random
from minicaffe.core.settings import settings
from minicaffe.parallel.environment import launched
from minicaffe.parallel.group import ALONE, Group


def start(group: Group | None = None) -> Group:
    """Make this process, or thread, a rank: solvers that it builds from now on train with those of the other ranks.

    group: the group; None (default): that of the launcher (`mpiexec`, `srun`, `torchrun`, `minicaffe train --workers`),
        or `ALONE` without one.
    Sets `solver_rank`, `solver_count`, and a random seed that the ranks have in common.  Returns the group.
    Raises ParallelError if the other ranks cannot be reached.
    """
    group = launched() if group is None else group
    settings.group, settings.solver_count, settings.solver_rank = group, group.size, group.rank
    if group.size > 1:
        random.set_random_seed(group.share(secrets.randbits(62)), group.rank)
    return group


def current() -> Group:
    """Return the group that `start` has joined in this thread; `ALONE` if there is none."""
    return settings.group or ALONE


def stop() -> None:
    """End what `start` has begun: solvers that are built from now on train alone."""
    if settings.group is not None:
        settings.group.close()
    settings.group, settings.solver_count, settings.solver_rank = None, 1, 0


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Call `stop` at the end of the block."""
    try:
        yield
    finally:
        stop()
