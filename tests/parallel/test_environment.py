"""How processes find each other by their launcher's variables, and which machine each is on."""

import contextlib
import os
import subprocess
import sys
import threading

import pytest

from helpers.ranks import run_ranks
from minicaffe import parallel
from minicaffe.errors import ParallelError
from minicaffe.parallel import environment, mpi
from minicaffe.parallel.group import ALONE
from minicaffe.parallel.sockets import free_address

LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "TORCHELASTIC_", "MINICAFFE_TOKEN")
LAUNCHERS_OF_MPI = ("OMPI_", "PMI_", "PMIX_", "SLURM_", "MPI_")
TORCHRUN = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in os.environ:
        if name.startswith(LAUNCHERS + LAUNCHERS_OF_MPI):
            monkeypatch.delenv(name)


def set_all(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WORLD_SIZE": "1", "RANK": "0"},
        {"PMI_SIZE": "1"},
        {"OMPI_COMM_WORLD_SIZE": "1"},
        {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "3"},  # a batch script
        {"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"},  # an interactive step
    ],
)
def test_one_process_is_alone(variables, monkeypatch):
    set_all(monkeypatch, variables)
    assert environment.launched() is ALONE
    assert (environment.local_rank(ALONE), environment.local_size(ALONE)) == (0, 1)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": ""}, "WORLD_SIZE must be a whole number, got ''"),
        ({"WORLD_SIZE": "-2"}, "WORLD_SIZE must be a whole number, got '-2'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE must be at least 1, got 0"),
        ({"RANK": "two"}, "RANK must be a whole number, got 'two'"),
        ({"RANK": "²"}, "RANK must be a whole number, got '²'"),
        ({"RANK": "2"}, "RANK must be 0 to 1, got 2"),
        ({"RANK": None}, "RANK must be a whole number, got ''"),
        ({"MASTER_PORT": None}, "MASTER_PORT must be a whole number, got ''"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT must be 1 to 65535, got 70000"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not set"),
        ({"PMI_SIZE": "many", "WORLD_SIZE": "1"}, "PMI_SIZE must be a whole number, got 'many'"),
    ],
)
def test_wrong_variables(variables, message, monkeypatch):
    set_all(monkeypatch, {name: value for name, value in (TORCHRUN | variables).items() if value is not None})
    with pytest.raises(ParallelError, match="the environment variable " + message):
        environment.launched()


def start_by_variables(rank, size, variables, address):
    """A process that starts by torchrun's variables and prints what it is."""
    code = """
from minicaffe import parallel
from minicaffe.parallel import environment
group = parallel.start()
print(group.name, group.rank, group.size, environment.local_rank(group), environment.local_size(group))
"""
    own = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": address[0]}
    own |= {"MASTER_PORT": address[1], "MINICAFFE_TOKEN": "secret"}
    env = os.environ | {name: str(value) for name, value in (own | variables).items()}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)


@pytest.mark.parametrize("variables", [{}, {"TORCHELASTIC_USE_AGENT_STORE": "True"}], ids=["free", "port_in_use"])
def test_processes_of_torchrun(variables):
    """torchrun listens at MASTER_PORT itself, if it states so."""
    address, done = free_address(), [None, None]

    def work(rank):
        done[rank] = start_by_variables(rank, 2, variables, address)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.stdout for each in done] == ["TCP 0 2 0 2\n", "TCP 1 2 1 2\n"], done


# -- MPI ---------------------------------------------------------------------------------------------------------------

STARTED = """
from minicaffe import parallel
from minicaffe.parallel import environment
group = parallel.start()
here = group.name.partition(" ")[0], group.size, environment.local_size(group), environment.local_rank(group)
everyone = group.gather(here)
if group.root:
    print(everyone, len(set(environment.places(group))))
else:
    environment.places(group)
"""


def test_processes_of_mpiexec(mpiexec):
    done = mpiexec(3, "-c", STARTED)
    assert done.stdout == f"{[['MPI', 3, 3, rank] for rank in range(3)]} 3\n", done.stderr


def test_a_step_of_srun_without_mpi(mpiexec):
    """srun has started 4 processes, but each finds itself alone in MPI."""
    env = os.environ | {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1"}
    done = subprocess.run([sys.executable, "-c", STARTED], env=env, capture_output=True, text=True)
    assert done.stderr.strip().endswith("finds 1: start them by srun --mpi=pmi2 or srun --mpi=pmix")
    assert "srun has started 4 processes, but MPI (" in done.stderr


def test_open_mpis_launcher_of_another_library(monkeypatch):
    """MPICH would end the process when it is initialized."""
    pytest.importorskip("mpi4py")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setattr(mpi, "module", lambda: None)
    monkeypatch.setattr(mpi, "library", lambda module: "MPICH Version: 5.0.2")
    sentence = "mpiexec of Open MPI cannot start processes of MPICH Version: 5.0.2: use the mpiexec of that library, or"
    with pytest.raises(ParallelError, match=sentence):
        environment.launched()


def test_without_mpi4py(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(ParallelError, match="MPI needs mpi4py, which is not installed: pip install 'minicaffe.mpi.'"):
        environment.launched()


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("0.0.0", r"the package mpich is empty on this system \(version 0.0.0\): install MPICH or Open MPI by its"),
        ("5.0.2", "the package mpich 5.0.2 is installed, but not usable"),
        (None, "pip install mpich, or install MPICH or Open MPI by the system's packages"),
    ],
)
def test_mpi4py_without_an_mpi_library(version, message, monkeypatch):
    def installed(package):
        if version is None:
            raise mpi.importlib.metadata.PackageNotFoundError(package)
        return version

    class NoLibrary:
        """mpi4py's finder raises RuntimeError when its module MPI is imported."""

        def find_spec(self, name, path=None, target=None):
            if name == "mpi4py.MPI":
                raise RuntimeError("cannot load MPI library\nlibmpi.so.12: no such file\nlibmpi.so.40: no such file")

    pytest.importorskip("mpi4py")
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoLibrary(), *sys.meta_path])
    monkeypatch.setattr(mpi.importlib.metadata, "version", installed)
    with pytest.raises(ParallelError, match=f"mpi4py finds no MPI library .cannot load MPI library.; {message}"):
        mpi.MpiGroup()


# -- machines ----------------------------------------------------------------------------------------------------------


def test_ranks_of_two_machines(monkeypatch):
    hosts = {}
    monkeypatch.setattr(environment.socket, "gethostname", lambda: hosts[threading.get_ident()])

    def work(group):
        hosts[threading.get_ident()] = "ab"[group.rank % 2]
        return [each.host for each in environment.places(group)], *environment._local(group)

    assert run_ranks(5, work) == [(list("ababa"), rank // 2, 3 - rank % 2) for rank in range(5)]


def test_variables_of_another_group_are_not_used(monkeypatch):
    """A group of 3 in a process of a launcher with 2: the variables are of other processes."""
    set_all(monkeypatch, TORCHRUN | {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
    assert run_ranks(3, environment.local_rank) == [0, 1, 2]


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("", "2"), ("x", "2"), ("0", "0")])
def test_wrong_local_variables(rank, size, monkeypatch):
    set_all(monkeypatch, TORCHRUN | {"LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size})
    with pytest.raises(ParallelError, match="the environment variable LOCAL_"):
        run_ranks(2, environment.local_rank)


def test_start_and_stop():
    with contextlib.ExitStack() as stack:
        stack.callback(parallel.stop)
        assert parallel.start() is ALONE and parallel.current() is ALONE
