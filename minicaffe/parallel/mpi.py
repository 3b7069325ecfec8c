"""A group over MPI, by mpi4py (the extra `mpi`), for processes that mpiexec, srun or another launcher has started."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicaffe.errors import ParallelError
from minicaffe.parallel.group import Group

_FEW = 4096  #: arrays of at most so many numbers are exchanged whole


class MpiGroup(Group):
    """The ranks of an MPI communicator.

    communicator: of mpi4py; None (default): a duplicate of COMM_WORLD.
    Raises ParallelError if mpi4py or an MPI library is missing.
    """

    def __init__(self, communicator: Any = None) -> None:
        mpi = _mpi4py()
        self._communicator = communicator or mpi.COMM_WORLD.Dup()
        super().__init__(self._communicator.Get_rank(), self._communicator.Get_size())
        self.name = f"MPI ({mpi.Get_library_version().splitlines()[0].strip()})"

    def sum(self, array: np.ndarray) -> None:
        """Add each part of the array at one rank, in the order of the ranks, and send the sums to all ranks.

        MPI's own Allreduce may add in another order at each rank and in each run.
        """
        if array.size <= _FEW:
            every = np.empty((self.size, array.size), array.dtype)
            self._communicator.Allgather(array, every)
            _add_rows(every, array)
            return
        bounds = np.arange(self.size + 1) * array.size // self.size
        counts, starts = np.diff(bounds).tolist(), bounds[:-1].tolist()
        own = counts[self.rank]
        every = np.empty((self.size, own), array.dtype)
        self._communicator.Alltoallv([array, counts, starts], [every, [own] * self.size])
        part = np.empty(own, array.dtype)
        _add_rows(every, part)
        self._communicator.Allgatherv(part, [array, counts, starts])

    def broadcast(self, array: np.ndarray) -> None:
        self._communicator.Bcast(array)

    def gather_bytes(self, content: bytes) -> list[bytes]:
        return self._communicator.gather(content) or []

    def share_bytes(self, content: bytes) -> bytes:
        return self._communicator.bcast(content)

    def duplicate(self) -> MpiGroup:
        return MpiGroup(self._communicator.Dup())


def _add_rows(rows: np.ndarray, out: np.ndarray) -> None:
    """Add the rows in their order."""
    np.add(rows[0], rows[1], out=out)
    for row in rows[2:]:
        out += row


def _mpi4py() -> Any:
    """Return the module mpi4py.MPI, which initializes MPI when it is imported."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is no MPI library
        raise ParallelError(
            f"MPI cannot be used ({error}): pip install 'minicaffe[mpi]', or install MPICH or Open MPI and mpi4py"
        ) from None
    return MPI
