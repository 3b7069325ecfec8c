"""Other functions of pycaffe's interface: timer, log, and what the scripts of training in several processes use."""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Any

from minicaffe.core.settings import settings
from minicaffe.errors import UsageError
from minicaffe.parallel import rank_log
from minicaffe.parallel.sockets import SocketGroup, free_address
from minicaffe.solvers.ranks import Ranks

_log = logging.getLogger("minicaffe")


class Timer:
    """A stop watch that synchronizes with the GPU in GPU mode: `start()`, `stop()`, then `ms` or `us`.

    While it runs, `ms` and `us` give the time since `start`.
    """

    def __init__(self) -> None:
        self._begin: float | None = None
        self._elapsed = 0.0

    def start(self) -> None:
        """Start from zero."""
        _wait_for_device()
        self._begin = time.perf_counter()

    def stop(self) -> None:
        """Stop; `ms` and `us` keep the time since `start`."""
        self._elapsed = self._seconds()
        self._begin = None

    def _seconds(self) -> float:
        if self._begin is None:
            return self._elapsed
        _wait_for_device()
        return time.perf_counter() - self._begin

    @property
    def ms(self) -> float:
        """Milliseconds between `start` and `stop`, or since `start` while the watch runs."""
        return self._seconds() * 1e3

    @property
    def us(self) -> float:
        """Microseconds between `start` and `stop`, or since `start` while the watch runs."""
        return self._seconds() * 1e6


def _wait_for_device() -> None:
    settings.engine.synchronize()


class NCCL:
    """Gradients averaged over the solvers of several processes of one machine, as in the original's python/train.py.

    A script calls `new_uid` and starts the processes.  Each of them calls `set_solver_count` and `set_solver_rank`,
    builds its solver, and restores a snapshot if there is one; then

        nccl = NCCL(solver, uid)
        nccl.bcast()
        solver.add_callback(nccl)
        solver.net.after_backward(nccl)  # as in the original; it has no effect
        solver.step(iterations)

    It works on GPUs, one for each process (`set_device`), and on the CPU.  `minicaffe.parallel` and the command
    `minicaffe train --workers` need fewer steps.

    solver: the solver of this process.  uid: what `new_uid` has returned, the same in all processes.
    Raises ParallelError if the other processes do not join within a minute; UsageError for another `uid`, and for a
    solver that trains with others already.
    """

    after_layer = None  #: what `Net.after_backward` calls: gradients are averaged after the last layer

    def __init__(self, solver: Any, uid: str) -> None:
        match = re.fullmatch(r"([^:]+):(\d{1,5}):(\w+)", uid) if isinstance(uid, str) else None
        if match is None:
            raise UsageError(f"NCCL expects the result of NCCL.new_uid(), got {uid!r}")
        if solver.ranks.several:
            raise UsageError("NCCL: the solver trains with others already, by minicaffe.parallel or another NCCL")
        host, port, token = match.groups()
        self._solver, self._added = solver, False
        solver.join(Ranks(SocketGroup((host, int(port)), settings.solver_rank, settings.solver_count, token)))

    @staticmethod
    def new_uid() -> str:
        """Return a name under which the processes of one training find each other; called once, by their parent."""
        host, port = free_address()
        return f"{host}:{port}:{secrets.token_hex(16)}"

    def bcast(self) -> None:
        """Give the solvers of all processes the state of rank 0's: parameters, history, iteration."""
        self._solver.ranks.begin(self._solver, 0)

    def add_to_solver(self, solver: Any) -> None:
        """Average the gradients of the solver from now on; called by `Solver.add_callback`.

        Functions that were added before are called before the gradients are averaged, later ones after that.
        Raises UsageError for another solver than that of this object.
        """
        if solver is not self._solver or self._added:
            raise UsageError("add_callback: an NCCL is added once, to the solver that it was made for")
        self._added = True
        solver.average_gradients()


def has_nccl() -> bool:
    """Whether several solvers can train together by `NCCL`: True, also without a GPU and without NVIDIA's library."""
    return True


def init_log(level: int = 0, filename: str | None = None) -> None:
    """Write minicaffe's log to standard error, or append it to a file, in glog's format.

    level: the lowest severity to write: 0 info (default), 1 warning, 2 error, 3 fatal.  filename: the file, if any.
    Of several ranks, those other than rank 0 write only warnings and errors.
    UsageError for another level.
    """
    levels = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
    if level not in range(len(levels)):
        raise UsageError(f"init_log: the level must be 0 (info) to 3 (fatal), got {level}")
    handler = logging.FileHandler(filename, encoding="utf-8") if filename else logging.StreamHandler()
    rank_log.prepare(handler)
    _log.addHandler(handler)
    _log.setLevel(levels[level])


def log(message: str) -> None:
    """Write a line into minicaffe's log."""
    _log.info(message, stacklevel=2)  # may have several lines


def solver_count() -> int:
    """The number of solvers that train together, as `set_solver_count` has set it in this thread (default 1)."""
    return settings.solver_count


def set_solver_count(count: int) -> None:
    """Set the number of solvers that train together; TRAIN data layers built by this thread read a share of the data.

    Record i of the endless stream of records belongs to rank i % count.  This alone exchanges no gradients: see `NCCL`
    and `minicaffe.parallel`.  UsageError for a count below 1.
    """
    if count < 1:
        raise UsageError(f"set_solver_count: expected 1 or more, got {count}")
    settings.solver_count = int(count)


def solver_rank() -> int:
    """The index of this thread's solver, from 0 (the root, default), as `set_solver_rank` has set it."""
    return settings.solver_rank


def set_solver_rank(rank: int) -> None:
    """Set the index of this thread's solver, from 0; UsageError when it is not below the count, which is set first."""
    if not 0 <= rank < settings.solver_count:
        raise UsageError(f"set_solver_rank: expected 0 to {settings.solver_count - 1}, got {rank}")
    settings.solver_rank = int(rank)


def set_multiprocess(multiprocess: bool) -> None:
    """Do nothing: processes are always allowed.  In the original, data layers read a share only after True."""
