"""What launchers state in environment variables: rank, number of processes, and where they meet."""

from __future__ import annotations

import os

from minicaffe.errors import ParallelError
from minicaffe.parallel.group import ALONE, Group
from minicaffe.parallel.mpi import MpiGroup
from minicaffe.parallel.sockets import SocketGroup

TOKEN = "MINICAFFE_TOKEN"  #: the secret of `minicaffe train --workers`
#: variables with the number of processes, of launchers that MPI is initialized from
_MPI_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def launched() -> Group:
    """Return the group of the launcher that has started this process; `ALONE` if there is none, or one process."""
    if os.environ.get("WORLD_SIZE", "1") != "1":  # torchrun's, and those of `minicaffe train --workers`
        rank, size, port = (_whole(name) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
        address = os.environ.get("MASTER_ADDR", "127.0.0.1"), port
        return SocketGroup(address, rank, size, os.environ.get(TOKEN, ""))
    if any(os.environ.get(name, "1") != "1" for name in _MPI_SIZES):
        return MpiGroup()
    return ALONE


def _whole(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdigit():
        raise ParallelError(f"the environment variable {name} must be a whole number, got '{text}'")
    return int(text)
