"""A rank that fails ends all ranks of its training, with one sentence; the ways and the phases in which it can fail."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import minicaffe
from helpers.rank_processes import Ranks, mpiexec, run_mpiexec
from minicaffe import parallel
from minicaffe.errors import DataError
from minicaffe.parallel import watch
from minicaffe.parallel.sockets import free_address
from minicaffe.proto import caffe_pb2, parse_text

needs_fork = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="needs processes that fork")
SIZE = 3
SOLVER = """
base_lr: 0.1 lr_policy: "fixed" max_iter: 6 random_seed: 3 snapshot: 3 snapshot_prefix: "s" test_iter: 2
test_interval: 2 net_param {
  layer { name: "data" type: "DummyData" top: "x" top: "t"
          dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 1 } data_filler { type: "gaussian" } } }
  layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
          inner_product_param { num_output: 1 weight_filler { type: "xavier" } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
}
"""
PHASES = ("joined", "built", "pass", "exchange", "test", "snapshot", "solved")


class Return(Exception):
    """Ends a training early, as a `return` does."""


def die_by(way):
    """End this process, or its training, in one of the ways of `ENDS`."""
    if way == "error":
        raise DataError("the file x is missing")
    if way == "bug":
        raise ZeroDivisionError("division by zero")
    if way == "return":
        raise Return
    if way == "exit":
        sys.exit(3)
    if way == "_exit":
        os._exit(5)
    os.kill(os.getpid(), getattr(signal, f"SIG{way}"))


#: what is printed after the rank's name, and the status of its process
ENDS = {
    "error": (": the file x is missing", 1),
    "bug": (": ZeroDivisionError: division by zero", 1),
    "return": (" has ended its training before the others", 1),
    "exit": (" has ended with the exit status 3", 3),
    "_exit": (" was killed, or its connection was lost", 5),
    "KILL": (" was killed, or its connection was lost", -signal.SIGKILL),
    "TERM": (" was killed, or its connection was lost", -signal.SIGTERM),
    "INT": (" was interrupted", 130),
}


class Fault:
    """A function that ends rank `who` when it is in a phase, the second time if that comes again."""

    def __init__(self, who, way, phase):
        self._who, self._way, self._phase = who, way, phase
        self._left = 1 if phase in ("joined", "built", "snapshot", "solved") else 2

    def __call__(self, phase):
        if phase == self._phase and parallel.current().rank == self._who:
            self._left -= 1
            if not self._left:
                die_by(self._way)


def calling(function, fault, phase):
    """A function that calls `fault` before another function."""

    def call(*args):
        fault(phase)
        return function(*args)

    return call


def train(fault):
    """Train in this rank; call `fault` in each phase."""
    with parallel.guarded(), contextlib.suppress(Return):
        group = parallel.start()
        fault("joined")
        solver = minicaffe.get_solver(parse_text(SOLVER, caffe_pb2.SolverParameter()))
        fault("built")
        solver.add_callback(lambda: fault("pass"), lambda: None)
        group.pausing = calling(group.pausing, fault, "test")  # other ranks wait there while the root tests
        group.group.sum = calling(group.group.sum, fault, "exchange")
        os.replace = calling(os.replace, fault, "snapshot")  # of the root
        if not group.root:
            group.group.gather_bytes = calling(group.group.gather_bytes, fault, "snapshot")
        solver.solve()
        fault("solved")


def expected(ranks, who, way):
    """The sentence about a rank that has ended."""
    host = os.uname().nodename
    return f"minicaffe: rank {who} ({host}, process {ranks.pids[who]}){ENDS[way][0]}"


@needs_fork
@pytest.mark.parametrize("who", range(SIZE))
@pytest.mark.parametrize("number", range(len(PHASES)), ids=PHASES)
def test_all_end_when_one_fails(tmp_path, who, number):
    """Each phase at each rank, with the ways in turn."""
    ways = [way for way in ENDS if way != "return"]
    way = ways[(number * SIZE + who) % len(ways)]
    ranks = Ranks(tmp_path, SIZE, lambda rank: train(Fault(who, way, PHASES[number])))
    statuses = ranks.wait()
    assert statuses == [ENDS[way][1] if rank == who else 1 for rank in range(SIZE)], ranks.output()
    assert ranks.sentences() == [expected(ranks, who, way)], ranks.output()
    assert ("Traceback" in ranks.output(who)) == (way == "bug")


@needs_fork
def test_nothing_is_printed_at_a_normal_end(tmp_path):
    ranks = Ranks(tmp_path, SIZE, lambda rank: train(lambda phase: None))
    assert ranks.wait() == [0, 0, 0], ranks.output()
    assert ranks.output() == ""


@needs_fork
@pytest.mark.parametrize("who", range(SIZE))
def test_one_that_returns_early_ends_all(tmp_path, who):
    ranks = Ranks(tmp_path, SIZE, lambda rank: train(Fault(who, "return", "pass")))
    assert ranks.wait() == [1, 1, 1], ranks.output()
    assert ranks.sentences() == [expected(ranks, who, "return")]


@needs_fork
def test_one_that_returns_early_while_the_others_use_a_channel(tmp_path):
    def work(rank):
        with parallel.guarded():
            group = parallel.start()
            channel = group.channel("statistics")
            channel.share()
            if rank != 1:
                channel.share()

    ranks = Ranks(tmp_path, SIZE, work)
    assert ranks.wait() == [1, 1, 1], ranks.output()
    assert ranks.sentences() == [expected(ranks, 1, "return")]


@needs_fork
def test_two_that_fail_give_one_sentence(tmp_path):
    ranks = Ranks(tmp_path, SIZE, lambda rank: train(Fault(max(rank, 1), "error", "pass")))
    assert ranks.wait() == [1, 1, 1], ranks.output()
    assert ranks.sentences() in ([expected(ranks, 1, "error")], [expected(ranks, 2, "error")])


@needs_fork
def test_two_trainings_one_after_the_other(tmp_path):
    def both(rank):
        train(lambda phase: None)
        assert parallel.current().size == 1
        os.environ["MASTER_PORT"] = str(second)
        train(Fault(2, "error", "pass"))

    second = free_address()[1]
    ranks = Ranks(tmp_path, SIZE, both)
    assert ranks.wait() == [1, 1, 1], ranks.output()
    assert ranks.sentences() == [expected(ranks, 2, "error")]


@needs_fork
def test_an_output_that_is_not_read_does_not_hang(tmp_path):
    """The main thread of the root is blocked in a write when another rank fails."""

    def work(rank):
        if rank == 0:
            os.dup2(pipe[1], 2)
            sys.stderr = open(2, "w")  # noqa: SIM115  (until the process ends)
        with parallel.guarded():
            parallel.start()
            if rank == 0:
                sys.stderr.write("x" * 10_000_000)
            if rank == 1:
                die_by("error")
            parallel.current().share()

    pipe = os.pipe()
    try:
        assert Ranks(tmp_path, SIZE, work).wait() == [1, 1, 1]
    finally:
        for end in pipe:
            os.close(end)


@needs_fork
def test_a_launcher_that_is_gone_ends_all(tmp_path, monkeypatch):
    def work(rank):
        os.close(write)
        os.dup2(read, 0)
        with parallel.guarded():
            group = parallel.start()
            (tmp_path / f"there{rank}").touch()
            while True:
                group.sum(np.ones(3, np.float32))

    monkeypatch.setenv("MINICAFFE_LAUNCHED", "1")
    read, write = os.pipe()
    ranks = Ranks(tmp_path, SIZE, work)
    os.close(read)
    while len(list(tmp_path.glob("there*"))) < SIZE:
        time.sleep(0.01)
    os.close(write)
    assert ranks.wait() == [1, 1, 1], ranks.output()
    assert ranks.sentences() == ["minicaffe: the process that has started the training has ended"]


@needs_fork
@pytest.mark.parametrize("who", range(SIZE))
def test_a_computer_that_does_not_respond(tmp_path, monkeypatch, who):
    """A process that is stopped sends nothing, and its connections stay."""
    monkeypatch.setattr(watch, "LOST_SECONDS", 4.0)

    def work(rank):
        with parallel.guarded():
            group = parallel.start()
            if rank == who:
                os.kill(os.getpid(), signal.SIGSTOP)
            while True:
                group.sum(np.ones(3, np.float32))

    ranks = Ranks(tmp_path, SIZE, work)
    others = [rank for rank in range(SIZE) if rank != who]
    ranks.wait(only=others)
    os.kill(ranks.pids[who], signal.SIGKILL)
    assert [status for rank, status in enumerate(ranks.wait()) if rank != who] == [1, 1], ranks.output()
    (sentence,) = ranks.sentences()
    assert sentence.startswith(expected(ranks, who, "INT").replace("was interrupted", "has sent nothing for 4 s"))


# -- processes that do not fork ----------------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys
import numpy as np
from minicaffe import parallel
from minicaffe.errors import DataError
group = parallel.start()
for i in range(5):
    group.sum(np.ones(3, np.float32))
    if i == 3 and group.rank == int(sys.argv[1]):
        exec(sys.argv[2])
"""


@pytest.mark.parametrize(
    ("who", "code", "what"),
    [
        (1, "raise DataError('no file x')", ": no file x"),
        (0, "sys.exit(3)", " has ended its training before the others"),
        (1, "os.kill(os.getpid(), signal.SIGKILL)", " was killed, or its connection was lost"),
    ],
)
@pytest.mark.skipif(not mpiexec(), reason="needs mpi4py and mpiexec")
def test_all_end_under_mpi(who, code, what):
    """In a script that does not catch its errors.  MPICH kills the others at once if it notices a kill first."""
    status, output = run_mpiexec(3, "-c", SCRIPT, str(who), code)
    assert status, output
    sentences = [line for line in output.splitlines() if line.startswith("minicaffe: ")]
    assert len(sentences) == 1 or (not sentences and "KILL" in code), output
    assert all(sentence.startswith(f"minicaffe: rank {who} (") and sentence.endswith(what) for sentence in sentences)


@pytest.mark.skipif(not mpiexec(), reason="needs mpi4py and mpiexec")
def test_mpi_ends_normally():
    assert run_mpiexec(3, "-c", SCRIPT, "-1", "") == (0, "")


def test_a_script_that_ends_by_an_exception(tmp_path):
    """Python prints the traceback; the root prints the sentence."""
    port, processes = free_address()[1], []
    for rank in range(2):
        names = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {**os.environ, **{name: str(value) for name, value in names.items()}}
        command = [sys.executable, "-c", SCRIPT, "1", "raise DataError('no file x')"]
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment))
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    assert errors[0].endswith(f"process {processes[1].pid}): no file x\n") and errors[0].count("\n") == 1
    assert errors[1].startswith("Traceback") and errors[1].endswith("DataError: no file x\n")
