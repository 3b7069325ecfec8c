"""`minicaffe train` as a process of its own, or several, to which tests send signals."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import minicaffe

ROOT = Path(minicaffe.__file__).resolve().parent.parent
MINICAFFE = [sys.executable, "-m", "minicaffe"]
SECONDS = 90  #: after which a process counts as hanging

#: a net without files; if there is a file `wait`, rank 0 makes a file `waits` and waits in its forward pass
NET = """
name: "tiny"
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 6 dim: 2 } shape { dim: 6 }
  data_filler { type: "gaussian" } data_filler { type: "uniform" max: 2.99 } } }
layer { name: "wait" type: "Python" bottom: "data" python_param { module: "waiting" layer: "Waiting" } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.01 momentum: 0.9 lr_policy: "fixed" display: 10 max_iter: 100000 snapshot_prefix: "tiny"
random_seed: 3
"""
WAITING = """
import os, time
import minicaffe

class Waiting(minicaffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        time.sleep(0.002)
        while os.path.exists("wait") and os.environ.get("RANK", os.environ.get("PMI_RANK")) == "0":
            open("waits", "w").close()
            time.sleep(0.05)

    def backward(self, top, propagate_down, bottom):
        pass
"""


def environment(**variables):
    """The variables of a process that runs this checkout, one thread each."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}


def mpiexec():
    """The words that start two ranks by MPI; skips where there is no mpi4py, or no mpiexec."""
    pytest.importorskip("mpi4py")
    beside = Path(sys.executable).with_name("mpiexec")
    program = str(beside) if beside.exists() else shutil.which("mpiexec")
    if program is None:
        pytest.skip("there is no mpiexec")
    return [program, "-n", "2"]


class Training:
    """A running command; `text` is what it has written so far."""

    def __init__(self, words, variables, log):
        self._log = open(log, "w+b")
        self.process = subprocess.Popen(
            words, env=environment(**variables), stdout=self._log, stderr=self._log, start_new_session=True
        )

    @property
    def text(self):
        return Path(self._log.name).read_text(errors="replace")

    def until(self, pattern):
        """Wait until a line matches a pattern."""
        end = time.monotonic() + SECONDS
        while not re.search(pattern, self.text, re.MULTILINE):
            assert self.process.poll() is None and time.monotonic() < end, self.text
            time.sleep(0.02)
        return self

    def children(self):
        """The processes of `minicaffe train` below the command, by rank (Linux)."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                variables = dict(part.partition("=")[::2] for part in (folder / "environ").read_text().split("\0"))
                words = (folder / "cmdline").read_text().split("\0")
                rank = variables.get("RANK", variables.get("PMI_RANK"))
                if variables.get("TRAINING") == self._log.name and rank is not None and "minicaffe" in words:
                    found[int(rank)] = int(folder.name)
        return found

    def send(self, number):
        self.process.send_signal(number)

    def end(self):
        """Wait until the command has ended; return its exit status."""
        return self.process.wait(SECONDS)

    def close(self):
        self.process.kill()
        for process in self.children().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()
        self._log.close()


@contextlib.contextmanager
def training(*words, launcher=(), log="out.txt", **variables):
    """Run `minicaffe train --solver solver.prototxt` with further words in the working directory."""
    command = [*launcher, *MINICAFFE, "train", "--solver", "solver.prototxt", *words]
    log = os.path.abspath(log)
    started = Training(command, {"TRAINING": log, **variables}, log)
    try:
        yield started
    finally:
        started.close()


def words_to_resume(text):
    """The words of the command that resumes, which is printed once."""
    (line,) = [line for line in text.splitlines() if " train --solver" in line]
    return shlex.split(line)
