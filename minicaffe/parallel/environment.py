"""What launchers state in environment variables: rank, number of processes, and where they meet."""

from __future__ import annotations

import os
from typing import NamedTuple

from minicaffe.errors import ParallelError
from minicaffe.parallel.group import ALONE, Group
from minicaffe.parallel.mpi import MpiGroup
from minicaffe.parallel.sockets import SocketGroup

TOKEN = "MINICAFFE_TOKEN"  #: the secret of `minicaffe train --workers`


class Launcher(NamedTuple):
    """A program that starts processes, and its variables with their number and their index on a machine."""

    name: str
    size: str
    local_rank: str


TORCHRUN = Launcher("torchrun", "WORLD_SIZE", "LOCAL_RANK")
_LAUNCHERS = (
    TORCHRUN,
    Launcher("mpiexec of Open MPI", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    Launcher("mpiexec of MPICH or Intel MPI", "PMI_SIZE", "MPI_LOCALRANKID"),
    Launcher("srun", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)


def launcher() -> Launcher | None:
    """Return the launcher that has started this process among others; None if there is none."""
    return next((each for each in _LAUNCHERS if os.environ.get(each.size, "1") != "1"), None)


def local_rank(group: Group) -> int:
    """Return the index of this rank among the ranks of its machine."""
    found = launcher()
    return _whole(found.local_rank) if found else group.rank


def launched() -> Group:
    """Return the group of the launcher that has started this process; `ALONE` if there is none, or one process."""
    if os.environ.get("WORLD_SIZE", "1") != "1":  # torchrun's, and those of `minicaffe train --workers`
        rank, size, port = (_whole(name) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
        address = os.environ.get("MASTER_ADDR", "127.0.0.1"), port
        return SocketGroup(address, rank, size, os.environ.get(TOKEN, ""))
    if launcher():
        return MpiGroup()
    return ALONE


def _whole(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdigit():
        raise ParallelError(f"the environment variable {name} must be a whole number, got '{text}'")
    return int(text)
