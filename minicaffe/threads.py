"""How many threads compute in this process: one number for oneDNN's OpenMP and for numpy's BLAS.

In this order: the argument of `minicaffe.set_threads` or `--threads`, the environment variable OMP_NUM_THREADS, the
number of cores that the process may use (`minicaffe/cores.py`).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from minicaffe.cores import affinity, cores

#: variables by which a user sets the threads of BLAS
_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


class Threads:
    """The number of threads that compute; `THREADS` below is the only instance.

    wanted: the last argument of `minicaffe.set_threads`; None, the default, before.
    """

    def __init__(self) -> None:
        self.wanted: int | None = None
        self._default = 0

    def count(self) -> int:
        """Return how many threads compute, at least 1."""
        return self.wanted or self.default()

    def default(self) -> int:
        """Return the number without `set_threads`, which is determined once: OMP_NUM_THREADS, or all cores."""
        if not self._default:
            self._default = from_environment() or cores()
        return self._default

    def spare(self) -> int:
        """Return how many cores do not compute, at least 1: the number of threads for other work, such as data."""
        return max(1, cores() - self.count())


THREADS = Threads()


def from_environment() -> int:
    """Return OMP_NUM_THREADS, of a list "4,2" the first number; 0 if it is not set, or no such number."""
    first = re.match(r"\s*(\d+)\s*(,|$)", os.environ.get("OMP_NUM_THREADS", ""))
    return int(first[1]) if first else 0


# -- BLAS --------------------------------------------------------------------------------------------------------------


def limit_blas(count: int) -> None:
    """Let the BLAS libraries in this process compute with `count` threads; Apple's Accelerate has no such setting."""
    _blas().limit(limits=count)


def limit_blas_to_quota() -> None:
    """Limit BLAS to the cores that this process may use, if a cgroup limits them and no environment variable is set.

    The libraries themselves start a thread for each core of the affinity.
    """
    if cores() < affinity() and not any(name in os.environ for name in _VARIABLES):
        limit_blas(cores())


@contextlib.contextmanager
def blas_restored() -> Iterator[None]:
    """Restore the number of threads of each BLAS library at the end of the `with` block."""
    with _blas().limit(limits=None):
        yield


def blas_threads() -> list[int]:
    """Return the number of threads of each BLAS library in this process."""
    return [library.num_threads for library in _blas().lib_controllers]


def _blas():
    """Return threadpoolctl's controller of the BLAS libraries (OpenBLAS, MKL, BLIS) that are loaded now."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
