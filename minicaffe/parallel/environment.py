"""What launchers state in environment variables: rank, number of processes, and where they meet."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

from minicaffe.errors import ParallelError
from minicaffe.parallel import mpi
from minicaffe.parallel.group import ALONE, Group
from minicaffe.parallel.mpi import MpiGroup
from minicaffe.parallel.sockets import SocketGroup

TOKEN = "MINICAFFE_TOKEN"  #: the secret of `minicaffe train --workers`


class Launcher(NamedTuple):
    """A program that starts the processes of a training, and its environment variables.

    name: for messages.  size: the number of processes.  local_rank, local_size: the index of a process among those of
    its machine, and their number; "" if there is no such variable.
    hint: what to do if the processes do not find each other in MPI; "" if they do not use MPI.
    """

    name: str
    size: str
    local_rank: str
    local_size: str
    hint: str = ""


TORCHRUN = Launcher("torchrun", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # and `minicaffe train --workers`
_OPEN_MPI = Launcher(
    "mpiexec of Open MPI",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "use the mpiexec of that library, or name Open MPI's library in MPI4PY_LIBMPI",
)
_MPICH = Launcher(
    "mpiexec of MPICH or Intel MPI",
    "PMI_SIZE",
    "MPI_LOCALRANKID",
    "MPI_LOCALNRANKS",
    "use the mpiexec of that library, or name MPICH's or Intel MPI's library in MPI4PY_LIBMPI",
)
#: the variables of a job step: SLURM_NTASKS is also set in a batch script and in an interactive shell, which are alone
_SRUN = Launcher(
    "srun", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "", "start them by srun --mpi=pmi2 or srun --mpi=pmix"
)
_LAUNCHERS = (TORCHRUN, _OPEN_MPI, _MPICH, _SRUN)  # srun last: mpiexec starts its processes in steps of srun


def launcher() -> Launcher | None:
    """Return the launcher that has started this process among others; None if there is none."""
    for each in _LAUNCHERS:
        if each.size in os.environ and _whole(each.size, at_least=1) > 1:
            return each
    return None


def launched() -> Group:
    """Return the group of the launcher that has started this process; `ALONE` if there is none, or one process.

    Raises ParallelError if a variable of the launcher is wrong, or the processes do not find each other.
    """
    found = launcher()
    if found is None:
        return ALONE
    size = _whole(found.size)
    return _by_address(size) if found is TORCHRUN else _by_mpi(found, size)


def _by_address(size: int) -> Group:
    """Return the group of torchrun's variables, or of `minicaffe train --workers`."""
    rank, port = _whole("RANK", below=size), _whole("MASTER_PORT", at_least=1, below=1 << 16)
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # torchrun itself listens at that port
        port = port + 1 if port + 1 < 1 << 16 else port - 1
    return SocketGroup((_text("MASTER_ADDR"), port), rank, size, os.environ.get(TOKEN, ""))


def _by_mpi(found: Launcher, size: int) -> Group:
    """Return the group of COMM_WORLD, if it has the number of processes that the launcher has started."""
    module = mpi.module()
    library = mpi.library(module)
    if found is _OPEN_MPI and library.startswith(("MPICH", "Intel")):  # which would end the process
        raise ParallelError(f"{found.name} cannot start processes of {library}: {found.hint}")
    world = mpi.initialized(module).COMM_WORLD.Get_size()
    if world != size:
        raise ParallelError(
            f"{found.name} has started {size} processes, but MPI ({library}) finds {world}: {found.hint}"
        )
    return MpiGroup()


# -- the machines of the ranks -----------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where a rank runs: the name of its machine, and the number of its process."""

    host: str
    pid: int


def places(group: Group) -> list[Place]:
    """Return where the ranks of a group run, in their order.  Collective."""
    here = Place(socket.gethostname(), os.getpid())
    return [Place(*each) for each in group.exchange(here)]


def local_rank(group: Group) -> int:
    """Return the index of this rank among the ranks of its machine, from 0: the number of its GPU.  Collective.

    The launcher's variable, for a group of its processes; otherwise from the names of the machines.
    """
    return _local(group)[0]


def local_size(group: Group) -> int:
    """Return the number of the group's ranks on this machine.  Collective."""
    return _local(group)[1]


def _local(group: Group) -> tuple[int, int]:
    found = launcher()
    if found and found.local_size and _whole(found.size) == group.size:
        size = _whole(found.local_size, at_least=1)
        return _whole(found.local_rank, below=size), size
    hosts = [place.host for place in places(group)]
    here = hosts[group.rank]
    return hosts[: group.rank].count(here), hosts.count(here)


# -- variables ---------------------------------------------------------------------------------------------------------


def _text(name: str) -> str:
    text = os.environ.get(name, "")
    if not text:
        raise ParallelError(f"the environment variable {name} is not set, which {TORCHRUN.name} sets")
    return text


def _whole(name: str, at_least: int = 0, below: int | None = None) -> int:
    """Return the whole number in an environment variable."""
    text = os.environ.get(name, "")
    if not (text.isascii() and text.isdigit()):
        raise ParallelError(f"the environment variable {name} must be a whole number, got '{text}'")
    if int(text) < at_least or (below is not None and int(text) >= below):
        limits = f"at least {at_least}" if below is None else f"{at_least} to {below - 1}"
        raise ParallelError(f"the environment variable {name} must be {limits}, got {text}")
    return int(text)
