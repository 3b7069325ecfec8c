"""The local launcher: the environment and the cores of its workers, their exit statuses, and how they end."""

import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from minicaffe.errors import ParallelError
from minicaffe.parallel import launcher
from minicaffe.parallel.launcher import Workers, slices, threads_each
from minicaffe.parallel.sockets import SocketGroup

posix = pytest.mark.skipif(os.name != "posix", reason="signals and sessions of POSIX")


def python(code):
    """The words that run code in a Python that starts quickly."""
    return [sys.executable, "-S", "-E", "-c", f"import os, sys, time, signal; rank = int(os.environ['RANK'])\n{code}"]


@pytest.fixture
def few_seconds(monkeypatch):
    """Workers have little time to end after one has failed."""
    monkeypatch.setattr(launcher, "ENDING_SECONDS", 0.3)
    monkeypatch.setattr(launcher, "_TERMINATING_SECONDS", 0.3)


def run(code, count, threads=1, parts=None):
    with Workers(python(code), count, threads, parts) as workers:
        return workers.wait(), workers.killed()


# -- what workers get --------------------------------------------------------------------------------------------------


@posix
def test_workers_get_their_place_a_token_and_a_pipe(tmp_path):
    code = f"""
import json
with open({str(tmp_path)!r} + f"/{{rank}}", "w") as file:
    json.dump([dict(os.environ), os.getsid(0)], file)
sys.stdin.read()  # ends when the launcher closes the pipe
"""
    with Workers(python(code), 3, 2, None) as workers:
        for process in workers._processes:
            process.stdin.close()
        workers.wait()
    found = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(3)]
    for rank, (variables, _) in enumerate(found):
        expected = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 3, "LOCAL_WORLD_SIZE": 3, "OMP_NUM_THREADS": 2}
        assert {name: int(variables[name]) for name in expected} == expected
        assert variables["MINICAFFE_LAUNCHED"] == "1" and variables["MASTER_ADDR"] == "127.0.0.1"
    for name in ("MINICAFFE_TOKEN", "MASTER_PORT"):
        assert len({variables[name] for variables, _ in found}) == 1 and found[0][0][name]
    assert len({session for _, session in found} | {os.getsid(0)}) == 4


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_workers_run_on_cores_of_their_own(tmp_path):
    every = sorted(os.sched_getaffinity(0))
    part = {every[-1]}
    run(f"open({str(tmp_path)!r} + f'/{{rank}}', 'w').write(str(os.sched_getaffinity(0)))", 2, parts=[part, part])
    assert [path.read_text() for path in tmp_path.iterdir()] == [str(part)] * 2
    assert sorted(os.sched_getaffinity(0)) == every


def test_cores_are_divided(monkeypatch):
    monkeypatch.setattr(os, "sched_setaffinity", None, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 4, 5, 6}, raising=False)
    assert slices(2, 2) == [{0, 1}, {4, 5, 6}]
    assert slices(5, 1) == [{0}, {1}, {4}, {5}, {6}]
    assert slices(2, 3) is None  # more threads than cores
    assert slices(6, 1) is None
    monkeypatch.delattr(os, "sched_setaffinity")
    assert slices(2, 1) is None


def test_threads_are_divided(monkeypatch):
    monkeypatch.setattr(launcher, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_each(count) for count in (2, 3, 8, 9)] == [4, 2, 1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_each(2) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="the port is free, not reserved")
def test_the_port_is_kept_for_rank_0():
    reserved, port = launcher._reserve_port()
    with reserved:
        with socket.socket() as other, pytest.raises(OSError):
            other.bind(("127.0.0.1", port))
        with pytest.raises(ParallelError, match="did not join within 0.01 seconds"):  # it listens
            SocketGroup(("127.0.0.1", port), 0, 2, "", timeout=0.01)


# -- how they end ------------------------------------------------------------------------------------------------------


def test_the_status_is_0_if_that_of_all_is():
    assert run("", 3) == (0, "")


@posix
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("sys.exit(3 if rank == 1 else 0)", 3),
        ("time.sleep(rank and 99); sys.exit(7)", 7),  # the others are terminated
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(rank and 99); sys.exit(7)", 7),  # and killed
        ("sys.exit(130 if rank == 2 else 1)", 130),  # the others ended because of rank 2
    ],
)
def test_the_status_is_that_of_the_one_that_failed(few_seconds, code, status):
    assert run(code, 3) == (status, "")


@posix
def test_which_worker_was_killed_is_reported_if_no_other_does(few_seconds):
    status, killed = run("os.kill(os.getpid(), 9) if rank == 1 else time.sleep(99)", 2)
    assert status == 128 + signal.SIGKILL
    assert killed.startswith("rank 1 (process ") and killed.endswith(" was ended by SIGKILL")
    status, killed = run("os.kill(os.getpid(), 9) if rank == 1 else sys.exit(1)", 2)
    assert status == 128 + signal.SIGKILL and not killed


@posix
def test_signals_reach_rank_0_alone(tmp_path):
    code = f"""
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(5))
open({str(tmp_path)!r} + f"/{{rank}}", "w").close()
time.sleep(99 if rank == 0 else 0)
"""
    with Workers(python(code), 2, 1, None) as workers:
        while len(list(tmp_path.iterdir())) < 2:
            pass
        workers.send_root(signal.SIGUSR1)
        assert workers.wait() == 5


def test_those_that_are_left_are_ended_with_the_block():
    with Workers(python("time.sleep(99)"), 2, 1, None) as workers:
        processes = list(workers._processes)
    assert all(process.poll() is not None for process in processes)


def test_a_program_that_is_missing():
    with pytest.raises(ParallelError, match="worker 0 of 2 cannot be started: "):
        Workers([str(Path("no") / "such" / "program")], 2, 1, None)
