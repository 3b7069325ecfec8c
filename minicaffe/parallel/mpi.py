"""A group over MPI, by mpi4py (the extra `mpi`), for processes that mpiexec, srun or another launcher has started."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from minicaffe.errors import ParallelError
from minicaffe.parallel import calls
from minicaffe.parallel.calls import Call, bytes_of, parts
from minicaffe.parallel.group import Group

_FEW = 1 << 14  #: bytes: arrays of at most so many are exchanged whole
_PART = 1 << 26  #: bytes that are exchanged at a time; MPI counts before version 4 are below 2^31


class MpiGroup(Group):
    """The ranks of an MPI communicator.

    communicator: of mpi4py; None (default): COMM_WORLD.  The group uses a duplicate of it.
    Raises ParallelError if mpi4py or an MPI library is missing.

    Before each call the ranks exchange what it is, so that different calls are an error instead of a deadlock.
    """

    def __init__(self, communicator: Any = None) -> None:
        self._mpi = initialized(module())
        with self._errors():
            self._communicator = (communicator or self._mpi.COMM_WORLD).Dup()
            super().__init__(self._communicator.Get_rank(), self._communicator.Get_size())
        self.name = f"MPI ({library(self._mpi)})"
        self._scratch = np.empty(0, np.uint8)  # the terms of a sum, at most _PART bytes and one element per rank
        self._calls = np.empty((self.size, calls.SIZE), np.uint8)

    # -- collective calls --------------------------------------------------------------------------------------------

    def sum(self, array: np.ndarray) -> None:
        """Add each share of the array at one rank, in the order of the ranks, and send the sums to all ranks.

        MPI's own Allreduce may add in another order at each rank and in each run.
        """
        with self._meeting(Call.on("sum", array)):
            for part in parts(array, _PART):
                if part.nbytes <= _FEW:
                    self._sum_whole(part)
                else:
                    self._sum_shares(part)

    def _sum_whole(self, array: np.ndarray) -> None:
        terms = self._terms(array.size, array.dtype)
        self._communicator.Allgather(bytes_of(array), bytes_of(terms.reshape(-1)))
        array[:] = _add_rows(terms)

    def _sum_shares(self, array: np.ndarray) -> None:
        bounds = np.arange(self.size + 1) * array.size // self.size * array.itemsize
        layout = np.diff(bounds).tolist(), bounds[:-1].tolist()
        own = layout[0][self.rank]
        terms = self._terms(own // array.itemsize, array.dtype)
        self._communicator.Alltoallv(
            [bytes_of(array), *layout, self._mpi.BYTE],
            [bytes_of(terms.reshape(-1)), [own] * self.size, self._mpi.BYTE],
        )
        total = _add_rows(terms)
        self._communicator.Allgatherv(
            [bytes_of(total), own, self._mpi.BYTE], [bytes_of(array), *layout, self._mpi.BYTE]
        )

    def _terms(self, count: int, dtype: np.dtype) -> np.ndarray:
        """Return memory for `count` numbers of each rank, (size, count); it belongs to the group."""
        needed = self.size * count * dtype.itemsize
        if self._scratch.size < needed:
            self._scratch = np.empty(needed, np.uint8)
        return self._scratch[:needed].view(dtype).reshape(self.size, count)

    def broadcast(self, array: np.ndarray) -> None:
        with self._meeting(Call.on("broadcast", array)):
            for part in parts(array, _PART):
                self._communicator.Bcast(bytes_of(part))

    def gather_bytes(self, content: bytes) -> list[bytes]:
        with self._meeting(Call("gather")):
            return self._communicator.gather(content) or []

    def share_bytes(self, content: bytes) -> bytes:
        with self._meeting(Call("share")):
            return self._communicator.bcast(content)

    @contextlib.contextmanager
    def _meeting(self, call: Call) -> Iterator[None]:
        """Check that all ranks are at `call`; turn MPI's errors in the block into ParallelError."""
        with self._errors():
            self._communicator.Allgather(np.frombuffer(call.packed(), np.uint8), self._calls)
            others = np.flatnonzero((self._calls != self._calls[0]).any(axis=1))
            if others.size:
                first, other = (Call.unpacked(self._calls[rank].tobytes()) for rank in (0, others[0]))
                raise calls.difference(0, first, int(others[0]), other)
            yield

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._mpi.Exception as error:
            raise ParallelError(f"MPI has failed: {error}") from None

    # -- the group ---------------------------------------------------------------------------------------------------

    def duplicate(self) -> MpiGroup:
        return MpiGroup(self._communicator)

    def close(self) -> None:
        super().close()
        if self._communicator and not self._mpi.Is_finalized():
            with self._errors():
                self._communicator.Free()


def _add_rows(rows: np.ndarray) -> np.ndarray:
    """Add the rows in their order into the first one; return it."""
    for row in rows[1:]:
        rows[0] += row
    return rows[0]


def library(mpi: Any) -> str:
    """Return the name and version of the MPI library that mpi4py uses, such as "Open MPI v5.0.11"."""
    first = mpi.Get_library_version().splitlines()[0].partition(",")[0]
    return " ".join(first.strip("\0").split())


def module() -> Any:
    """Return the module mpi4py.MPI; `initialized` initializes MPI.

    Raises ParallelError, with what to install, if mpi4py or an MPI library is missing.
    """
    os.environ.setdefault("UCX_DEBUG_SIGNO", "0")  # UCX, below MPICH and Open MPI, would take SIGHUP for itself
    try:
        import mpi4py

        # importing MPI initializes it, which may end the process with a wrong library
        if "mpi4py.MPI" not in sys.modules:
            mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
        from mpi4py import MPI
    except ImportError as error:
        if error.name == "mpi4py":
            raise ParallelError("MPI needs mpi4py, which is not installed: pip install 'minicaffe[mpi]'") from None
        raise ParallelError(f"mpi4py cannot be imported ({error}); {_what_to_install()}") from None
    except RuntimeError as error:  # there is no MPI library
        raise ParallelError(
            f"mpi4py finds no MPI library ({str(error).splitlines()[0]}); {_what_to_install()}"
        ) from None
    return MPI


def initialized(mpi: Any) -> Any:
    """Initialize MPI, unless it is; return the module."""
    if not mpi.Is_initialized():
        mpi.Init_thread()
    return mpi


def _what_to_install() -> str:
    """Return what to install where mpi4py is there and MPI is not."""
    try:
        version = importlib.metadata.version("mpich")
    except importlib.metadata.PackageNotFoundError:
        return "pip install mpich, or install MPICH or Open MPI by the system's packages"
    if version == "0.0.0":
        return "the package mpich is empty on this system (version 0.0.0): install MPICH or Open MPI by its packages"
    return (
        f"the package mpich {version} is installed, but not usable: install MPICH or Open MPI by the system's packages"
    )
