"""`minicaffe train` in several processes: the local launcher, launchers of MPI, torchrun's variables."""

import argparse
import os
import re
import signal
import sys

import pytest

from helpers import commands
from helpers.commands import training, words_to_resume
from minicaffe.cli import joining
from minicaffe.cli.command import own_name
from minicaffe.parallel.sockets import free_address
from minicaffe.proto import caffe_pb2
from minicaffe.solvers.lr_policy import learning_rate

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
BEGUN = r"Iteration 10 "


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """A working directory with a training that does not end by itself."""
    monkeypatch.chdir(tmp_path)
    for name, text in (
        ("net.prototxt", commands.NET), ("solver.prototxt", commands.SOLVER), ("waiting.py", commands.WAITING)
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
    return tmp_path


def iterations(folder):
    """The iterations of the whole snapshots in a folder."""
    return sorted(int(re.search(r"_iter_(\d+)", path.name)[1]) for path in folder.glob("tiny_iter_*.solverstate"))


def assert_stopped_once(folder, training, *resumed_by):
    """One snapshot, by which a command resumes that has these words; logged once."""
    (number,) = iterations(folder)
    assert training.text.count("Optimization stopped early.") == 1
    words = words_to_resume(training.text)
    assert words[words.index("--snapshot") + 1] == f"tiny_iter_{number}.solverstate"
    assert " ".join(resumed_by) in " ".join(words)


# -- the launcher ------------------------------------------------------------------------------------------------------


def test_workers_train_and_one_of_them_logs(project):
    with training("--workers", "2", "--log", "x.log", "--tensorboard", "events", "--scale-lr", "linear",
                  "--keep", "1") as workers:  # fmt: skip
        assert workers.end() == 0, workers.text
    text = workers.text
    assert "Starting 2 workers with 1 thread each" in text
    assert "base_lr: 0.05 x 2 ranks = 0.1" in text and "Iteration 0, lr = 0.1\n" in text
    assert "2 ranks over TCP, 1 thread each; effective batch (batch_size x iter_size x ranks): 6 x 1 x 2 = 12" in text
    for line in ("Starting Optimization", "Iteration 8, Testing net (#0)", "Use CPU."):
        assert len(re.findall(rf"\] {re.escape(line)}$", text, re.MULTILINE)) == 1, line
    assert (project / "x.log").read_text().splitlines() == text.splitlines()
    assert len(os.listdir("events")) == 1
    assert sorted(path.name for path in project.glob("tiny_iter_*.solverstate.h5")) == ["tiny_iter_8.solverstate.h5"]


@linux
def test_a_signal_to_the_launcher_has_its_effect_once_and_the_run_is_resumed(slow):
    with training("--workers", "2") as workers:
        workers.until(BEGUN).send(signal.SIGHUP)
        workers.until(r"Snapshotting solver state[^~]*Iteration \d+0 ")
        (first,) = iterations(slow)
        workers.send(signal.SIGTERM)
        assert workers.end() == 0, workers.text
    assert iterations(slow)[0] == first and len(iterations(slow)) == 2
    words = words_to_resume(workers.text)[3:]
    assert words == ["train", "--solver", "solver.prototxt", "--snapshot",
                     f"tiny_iter_{iterations(slow)[1]}.solverstate", "--workers", "2"]  # fmt: skip
    (slow / "solver.prototxt").write_text(
        commands.SOLVER.replace("max_iter: 100000", f"max_iter: {iterations(slow)[1] + 20}")
    )
    with training(*words[3:]) as workers:
        assert workers.end() == 0, workers.text
    assert f"Resuming from {words[4]}" in workers.text and iterations(slow)[2] == iterations(slow)[1] + 20


@linux
def test_a_signal_to_one_worker_stops_all(slow):
    with training("--workers", "3") as workers:
        os.kill(workers.until(BEGUN).children()[1], signal.SIGTERM)
        assert workers.end() == 0, workers.text
        assert not workers.children()
    assert_stopped_once(slow, workers, "--workers 3")


@linux
def test_a_second_signal_stops_at_once(slow):
    with training("--workers", "2") as workers:
        workers.until(BEGUN)
        (slow / "wait").touch()
        while not (slow / "waits").exists():
            commands.time.sleep(0.02)
        workers.send(signal.SIGTERM)
        commands.time.sleep(0.7)  # more than the time in which two signals count as one
        workers.send(signal.SIGINT)
        assert workers.end() == 130, workers.text
        assert not workers.children()
    assert not iterations(slow)


@linux
def test_when_a_worker_is_killed_all_end_and_the_run_can_be_resumed(slow):
    with training("--workers", "3") as workers:
        workers.until(BEGUN).send(signal.SIGHUP)
        workers.until(r"Snapshotting solver state[^~]*Iteration \d+0 ")
        os.kill(workers.children()[1], signal.SIGKILL)
        assert workers.end() == 128 + signal.SIGKILL
        assert not workers.children()
    (number,) = iterations(slow)
    assert workers.text.count("minicaffe: rank 1 ") == workers.text.count("minicaffe: ") == 1
    assert f"tiny_iter_{number}.solverstate" in words_to_resume(workers.text)


@linux
def test_ctrl_c_of_a_terminal(slow):
    pid, terminal = os.forkpty()
    if pid == 0:
        os.execve(
            sys.executable,
            [*commands.MINICAFFE, "train", "--solver", "solver.prototxt", "--workers", "2"],
            commands.environment(TERM="xterm"),
        )
    shown = b""
    try:
        while b"Iteration 10 " not in shown:
            shown += os.read(terminal, 1 << 16)
        os.write(terminal, b"\x03")
        while b"this command resumes it" not in shown:
            shown += os.read(terminal, 1 << 16)
        with commands.contextlib.suppress(OSError):  # the end of a terminal's output
            while part := os.read(terminal, 1 << 16):
                shown += part
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)
    assert len(iterations(slow)) == 1 and b"images/s" in shown
    assert re.search(rb"\n(\r\x1b\[K)*\S+ -m minicaffe train [^\n]*--workers 2\r\n", shown)  # below the status line


# -- other launchers ---------------------------------------------------------------------------------------------------


@linux
def test_ranks_of_mpiexec_stop_together(slow):
    with training(launcher=commands.mpiexec()) as ranks:
        ranks.until(BEGUN).send(signal.SIGTERM)
        assert ranks.end() == 0, ranks.text
    assert " ranks over MPI" in ranks.text
    assert_stopped_once(slow, ranks, f"mpiexec -n 2 {own_name()} train --solver")


@linux
def test_signals_to_one_rank_of_mpiexec(slow):
    with training(launcher=commands.mpiexec()) as ranks:
        rank = ranks.until(BEGUN).children()[1]
        os.kill(rank, signal.SIGHUP)  # which UCX, below MPICH, takes for itself unless it is switched off
        ranks.until(r"Snapshotting solver state[^~]*Iteration \d+0 ")
        os.kill(rank, signal.SIGTERM)
        assert ranks.end() == 0, ranks.text
    assert len(iterations(slow)) == 2 and ranks.text.count("Optimization stopped early.") == 1


def test_ranks_of_torchruns_variables(slow):
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
              "MASTER_PORT": str(free_address()[1])}  # fmt: skip
    places = [{"RANK": str(rank), "LOCAL_RANK": str(rank), **common} for rank in range(2)]
    with training(**places[0]) as root, training(**places[1], log="other.txt") as other:
        root.until(BEGUN)
        other.send(signal.SIGTERM)
        assert (root.end(), other.end()) == (0, 0)
    assert other.text == ""
    assert_stopped_once(slow, root, f"{own_name()} train --solver")


# -- flags -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--workers 0", "--workers: expected a number above 0, got 0"),
        ("--workers 2 -gpu 0", "--workers is for CPUs; -gpu with several ids starts a process for each of them"),
        ("--workers 2 --solver no", "-solver: there is no file 'no'"),
        ("--workers 2 --snapshot no", "-snapshot: there is no file 'no'"),
        ("--workers 2 --snapshot auto --weights no", "-weights: there is no file 'no'"),
        ("--workers 2 --sigint_effect x", "-sigint_effect: expected stop, snapshot, none, got 'x'"),
        ("--workers 2 --log no/x.log", "cannot write the log 'no/x.log'"),
        ("--scale-lr square", "--scale-lr: expected linear, got 'square'"),
        ("--warmup 5", "--warmup is for --scale-lr linear, which is not given"),
        ("--scale-lr linear --warmup 0", "--warmup: expected a number above 0, got 0"),
    ],
)
def test_wrong_flags_are_reported_once_before_workers_start(project, run, words, sentence):
    status, _, err = run("train", "--solver", "solver.prototxt", *words.split())
    assert status == 1 and err.count(sentence) == 1 and err.count("\n") == 1


def test_workers_do_not_use_the_gpu_of_the_solver(project, run, monkeypatch):
    from minicaffe.cuda import context

    monkeypatch.setattr(context, "device_count", lambda: 1)
    with open("solver.prototxt", "a") as file:
        file.write("solver_mode: GPU")
    status, _, err = run("train", "--solver", "solver.prototxt", "--workers", 2)
    assert status == 1 and "the solver sets solver_mode: GPU; -gpu none trains on CPUs, -gpu 0,1 on GPUs" in err


def test_workers_of_a_solver_for_gpus_on_a_machine_without(project, run, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("minicaffe.cuda.context.device_count", lambda: 0)
    with open("solver.prototxt", "a") as file:
        file.write("solver_mode: GPU")
    status, _, err = run("train", "--solver", "solver.prototxt", "--workers", 2)
    assert status == 0, err


def test_workers_in_a_process_of_a_launcher(project, run, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("minicaffe.parallel.start", lambda: None)
    status, _, err = run("train", "--solver", "solver.prototxt", "--workers", 2)
    assert status == 1 and "--workers: torchrun has started this process among others; leave out --workers" in err


@pytest.mark.parametrize(("warmup", "rates"), [(None, [2.0, 2.0, 2.0]), (4, [0.5, 1.25, 2.0])])
def test_the_rate_is_scaled_and_rises(warmup, rates):
    param = caffe_pb2.SolverParameter(base_lr=0.5, lr_policy="fixed")
    joining.scale_rate(param, argparse.Namespace(scale_lr="linear", warmup=warmup), 4)
    assert [learning_rate(param, iteration, 0)[0] for iteration in (0, 2, 4)] == rates


def test_one_worker_is_this_process_and_the_rate_stays(project, run):
    status, _, err = run("train", "--solver", "solver.prototxt", "--workers", 1, "--scale-lr", "linear", "--warmup", 2)
    assert status == 0 and "Iteration 0, lr = 0.05\n" in err and "workers" not in err and " ranks" not in err


def test_one_process_imports_no_mpi(project):
    code = "import sys; from minicaffe.cli import main; main(['train', '--solver', 'solver.prototxt']); "
    code += "sys.exit('mpi4py' in sys.modules)"
    done = commands.subprocess.run([sys.executable, "-c", code], env=commands.environment(), capture_output=True)
    assert done.returncode == 0
