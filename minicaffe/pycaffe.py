"""What is left of pycaffe's surface: its timer, its log, and the numbers of processes and devices it speaks of.

minicaffe trains in one process, on one device.  The names that Caffe has for more are here so that scripts find them;
those that would start several devices say that they cannot.
"""

from __future__ import annotations

import logging
import time
from typing import NoReturn

from minicaffe.core.settings import settings
from minicaffe.errors import DeviceError, UsageError
from minicaffe.glog import GlogFormatter

_log = logging.getLogger("minicaffe")


class Timer:
    """A stop watch that waits for the GPU where one computes: `start()`, `stop()`, then `ms` or `us`.

    `ms` reads on while the watch runs.
    """

    def __init__(self) -> None:
        self._begin: float | None = None
        self._elapsed = 0.0

    def start(self) -> None:
        """Begin at zero."""
        _wait_for_device()
        self._begin = time.perf_counter()

    def stop(self) -> None:
        """Keep the time since `start`."""
        self._elapsed = self._seconds()
        self._begin = None

    def _seconds(self) -> float:
        if self._begin is None:
            return self._elapsed
        _wait_for_device()
        return time.perf_counter() - self._begin

    @property
    def ms(self) -> float:
        """Milliseconds between `start` and `stop`, or until now."""
        return self._seconds() * 1e3

    @property
    def us(self) -> float:
        """Microseconds between `start` and `stop`, or until now."""
        return self._seconds() * 1e6


def _wait_for_device() -> None:
    settings.engine.synchronize()


class NCCL:
    """Gradients summed over several GPUs, which minicaffe does not do: every use raises DeviceError."""

    def __init__(self, *args: object) -> None:
        self.new_uid()

    @staticmethod
    def new_uid() -> NoReturn:
        """Raise DeviceError; `has_nccl()` is False."""
        raise DeviceError("NCCL is not there: minicaffe trains on one device")


def has_nccl() -> bool:
    """Whether several GPUs can train together: no."""
    return False


def init_log(level: int = 0, filename: str | None = None) -> None:
    """Show minicaffe's log on standard error, or append it to a file; glog's levels: 0 info, 1 warning, 2 error."""
    levels = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
    if level not in range(len(levels)):
        raise UsageError(f"init_log: the level must be 0 (info) to 3 (fatal), got {level}")
    handler = logging.FileHandler(filename) if filename else logging.StreamHandler()
    handler.setFormatter(GlogFormatter())
    _log.addHandler(handler)
    _log.setLevel(levels[level])


def log(message: str) -> None:
    """Write a line into minicaffe's log."""
    _log.info("%s", message, stacklevel=2)


def solver_count() -> int:
    """How many solvers train together: 1."""
    return 1


def set_solver_count(count: int) -> None:
    """Accept 1; raise DeviceError for more."""
    if count != 1:
        raise DeviceError(f"set_solver_count: minicaffe trains on one device, got {count}")


def solver_rank() -> int:
    """Which of the solvers this one is: 0, the root."""
    return 0


def set_solver_rank(rank: int) -> None:
    """Accept 0; raise DeviceError for another."""
    if rank != 0:
        raise DeviceError(f"set_solver_rank: minicaffe trains on one device, got rank {rank}")


def set_multiprocess(multiprocess: bool) -> None:
    """Accept False; raise DeviceError for True."""
    if multiprocess:
        raise DeviceError("set_multiprocess: minicaffe trains in one process")
