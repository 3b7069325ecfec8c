"""Ranks of one training as processes: forked ones, joined over TCP, and those of mpiexec."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

from minicaffe.errors import MinicaffeError
from minicaffe.parallel.sockets import free_address

SECONDS = 60  #: for the end of all processes: generous, since the machine may be busy


class Ranks:
    """`size` forked processes that call `work(rank)`; its result, or a SystemExit, is the status of the process.

    folder: where they run, each with its output in a file of its own.
    """

    def __init__(self, folder, size, work):
        self.folder, self.size = Path(folder), size
        self.statuses = {}
        port = free_address()[1]
        self.pids = [self._fork(rank, port, work) for rank in range(size)]

    def output(self, rank=None):
        """What a rank, or all, have printed."""
        ranks = range(self.size) if rank is None else [rank]
        return "".join((self.folder / f"output.{each}").read_text() for each in ranks)

    def sentences(self):
        """All lines of the form in which errors are printed."""
        return [line for line in self.output().splitlines() if line.startswith("minicaffe: ")]

    def wait(self, only=None):
        """Wait for all processes; return their statuses, minus the signal for those that one ended.

        only: some ranks; None (default): all.  AssertionError if they do not end in time; no process is left then.
        """
        ranks = range(self.size) if only is None else only
        end = time.monotonic() + SECONDS
        while not self.statuses.keys() >= set(ranks) and time.monotonic() < end:
            self._collect(os.WNOHANG)
            time.sleep(0.01)
        hanging = [rank for rank in ranks if rank not in self.statuses]
        if hanging:
            for rank in set(range(self.size)) - self.statuses.keys():
                os.kill(self.pids[rank], signal.SIGKILL)
            self._collect(0)
        assert not hanging, f"ranks {hanging} hang: {self.output()}"
        return [self.statuses[rank] for rank in ranks]

    def _collect(self, options):
        for rank, pid in enumerate(self.pids):
            if rank not in self.statuses:
                ended, status = os.waitpid(pid, options)
                if ended:
                    self.statuses[rank] = os.waitstatus_to_exitcode(status)

    def _fork(self, rank, port, work):
        pid = os.fork()
        if pid:
            return pid
        status = 70
        try:
            os.chdir(self.folder)
            sys.stdout = sys.stderr = open(f"output.{rank}", "w", buffering=1)  # noqa: SIM115  (until the process ends)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            names = {"RANK": rank, "WORLD_SIZE": self.size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in names.items()})
            status = _status(lambda: work(rank))
        finally:
            os._exit(status)


def _status(work):
    """Call a function as the command line does: an error is one sentence, or a traceback for one of the program."""
    try:
        return work() or 0
    except MinicaffeError as error:
        print(f"minicaffe: {error}")
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    return 1


def mpiexec():
    """The path of mpiexec, beside the interpreter or in PATH; None if there is none, or no mpi4py."""
    with contextlib.suppress(ImportError):
        import mpi4py

        folders = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
        return mpi4py and shutil.which("mpiexec", path=folders)
    return None


def run_mpiexec(size, *words):
    """Run a Python command line in `size` processes; return (exit status, standard output and standard error)."""
    command = [mpiexec(), "-n", str(size), sys.executable, *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS)
    return done.returncode, done.stdout
