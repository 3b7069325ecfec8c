"""Other functions of pycaffe's interface: timer, log, and the functions for training on several devices.

minicaffe trains in one process, on one device.  The functions for several devices exist so that scripts run unchanged;
they accept the values for one device and raise DeviceError for any other.
"""

from __future__ import annotations

import logging
import time
from typing import NoReturn

from minicaffe.core.settings import settings
from minicaffe.errors import DeviceError, UsageError
from minicaffe.parallel import rank_log

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
    """Gradient sums over several GPUs, which minicaffe does not support: every use raises DeviceError."""

    def __init__(self, *args: object) -> None:
        self.new_uid()

    @staticmethod
    def new_uid() -> NoReturn:
        """Raise DeviceError; `has_nccl()` is False."""
        raise DeviceError("NCCL is not there: minicaffe trains on one device")


def has_nccl() -> bool:
    """Whether training on several GPUs is supported: False."""
    return False


def init_log(level: int = 0, filename: str | None = None) -> None:
    """Write minicaffe's log to standard error, or append it to a file, in glog's format.

    level: the lowest severity to write: 0 info (default), 1 warning, 2 error, 3 fatal.  filename: the file, if any.
    Of several ranks, those other than rank 0 write only warnings and errors.
    UsageError for another level.
    """
    levels = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
    if level not in range(len(levels)):
        raise UsageError(f"init_log: the level must be 0 (info) to 3 (fatal), got {level}")
    handler = logging.FileHandler(filename) if filename else logging.StreamHandler()
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

    Record i of the endless stream of records belongs to rank i % count.  The solvers' gradients are not exchanged, see
    `Solver.add_gradient_hook`.  UsageError for a count below 1.
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
    """Accept False; raise DeviceError for True."""
    if multiprocess:
        raise DeviceError("set_multiprocess: minicaffe trains in one process")
