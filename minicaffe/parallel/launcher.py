"""The local launcher: processes of this machine that train together, one for each worker.

The workers are started with torchrun's variables and a secret, and join by TCP (`minicaffe.parallel.environment`).
They are in sessions of their own, so that a signal of the terminal reaches only the launcher; their standard input is a
pipe, which ends with the launcher.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from minicaffe.cores import cores
from minicaffe.errors import ParallelError
from minicaffe.parallel.environment import TOKEN
from minicaffe.threads import from_environment

LAUNCHED = "MINICAFFE_LAUNCHED"  #: "1" in the environment of a worker
HOST = "127.0.0.1"
#: how long the others have after one worker has failed: they end by themselves, if they have joined
ENDING_SECONDS = 3.0
_TERMINATING_SECONDS = 1.0
_POLL_SECONDS = 0.05


def is_worker() -> bool:
    """Whether this process was started by the local launcher."""
    return os.environ.get(LAUNCHED) == "1"


def threads_each(count: int) -> int:
    """Return with how many threads each of `count` workers computes: OMP_NUM_THREADS, or its share of the cores."""
    return from_environment() or max(1, cores() // count)


def slices(count: int, threads: int) -> list[set[int]] | None:
    """Return the cores of each of `count` workers: disjoint parts of those that this process may use.

    None if the system has no affinity, or if a part would have fewer cores than `threads`.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    every = sorted(os.sched_getaffinity(0))
    bounds = [i * len(every) // count for i in range(count + 1)]
    parts = [set(every[low:high]) for low, high in zip(bounds, bounds[1:])]
    return parts if min(map(len, parts)) >= threads else None


class Workers:
    """Processes that run one command, as ranks 0, 1 ...; a context manager that ends those that are left.

    command: the words.  count: the number of processes.  threads: with how many threads each computes.
    parts: the cores of each, see `slices`; None: all have those of this process.
    ParallelError if a process cannot be started.
    """

    def __init__(self, command: Sequence[str], count: int, threads: int, parts: Sequence[set[int]] | None) -> None:
        self._processes: list[subprocess.Popen] = []
        self._failed: dict[int, int] = {}  # statuses of the ranks that have failed by themselves, in the order of time
        self._end_at: float | None = None  # when those that are left are ended
        self._ends = False  # whether that has begun
        self._reserved, port = _reserve_port()
        token = secrets.token_hex(16)
        try:
            for rank in range(count):
                variables = {**os.environ, **_variables(rank, count, port, token), "OMP_NUM_THREADS": str(threads)}
                with _on_cores(parts[rank] if parts else None):
                    self._processes.append(_start(command, variables))
        except BaseException as error:
            self.__exit__()
            if isinstance(error, OSError):
                sentence = f"worker {rank} of {count} cannot be started: {error.strerror or error}"
                raise ParallelError(sentence) from None
            raise

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            if process.stdin is not None:
                process.stdin.close()
            process.wait()
        if self._reserved is not None:
            self._reserved.close()

    def send_root(self, number: int) -> None:
        """Send a signal to rank 0, unless it has ended."""
        if sys.platform == "win32":  # whose processes get no other signal that they can handle
            number = signal.CTRL_BREAK_EVENT
        if self._processes:
            self._processes[0].send_signal(number)

    def end_soon(self) -> None:
        """Let `wait` end all workers that have not ended after `ENDING_SECONDS`."""
        if self._end_at is None:
            self._end_at = time.monotonic() + ENDING_SECONDS

    def wait(self) -> int:
        """Wait until all workers have ended; return 0, or the status of the one that failed.

        When one has failed, the others have `ENDING_SECONDS` to end; then they are terminated, and killed.
        A status is that of a shell: 128 and the number of the signal that has ended the process.  A worker that ends
        because another one has failed has the status 1.
        """
        while self._some_run():
            if self._end_at is not None and time.monotonic() >= self._end_at:
                self._end_rest()
            time.sleep(_POLL_SECONDS)
        statuses = list(self._failed.values())
        return next((status for status in statuses if status > 128), statuses[0] if statuses else 0)

    def killed(self) -> str:
        """Return which worker was killed, if no other has reported it; "" otherwise."""
        if not self._failed or min(self._failed.values()) <= 128:
            return ""
        rank, status = next(iter(self._failed.items()))
        return f"rank {rank} (process {self._processes[rank].pid}) was ended by {signal.Signals(status - 128).name}"

    def _some_run(self) -> bool:
        """Note which workers have failed, and how; return whether any has not ended."""
        statuses = [process.poll() for process in self._processes]
        for rank, status in enumerate(statuses):
            if status and rank not in self._failed and not self._ends:
                self._failed[rank] = status if status > 0 else 128 - status
                self.end_soon()
        return None in statuses

    def _end_rest(self) -> None:
        self._ends = True
        for process in self._processes:
            process.terminate()
        time.sleep(_TERMINATING_SECONDS)
        for process in self._processes:
            process.kill()


def _start(command: Sequence[str], variables: dict[str, str]) -> subprocess.Popen:
    """Start a process that gets no signal of this one's terminal."""
    if sys.platform == "win32":
        group = subprocess.CREATE_NEW_PROCESS_GROUP
        return subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, creationflags=group)
    return subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, start_new_session=True)


def _variables(rank: int, count: int, port: int, token: str) -> dict[str, str]:
    """Return the variables from which a worker learns its place."""
    return {
        "RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": HOST, "MASTER_PORT": str(port), TOKEN: token, LAUNCHED: "1",
    }  # fmt: skip


@contextlib.contextmanager
def _on_cores(part: set[int] | None) -> Iterator[None]:
    """Run this thread, and the processes that it starts, on these cores inside the block; None: no change."""
    if part is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, part)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _reserve_port() -> tuple[socket.socket | None, int]:
    """Return a free port, and on Linux a socket that keeps it from other processes.

    The socket has the port and does not listen; Linux lets rank 0 listen there, as both sockets have SO_REUSEADDR, and
    gives the port to no process that requests any free one.  Elsewhere the port is free now.
    """
    reserved = socket.socket()
    try:
        if sys.platform == "linux":
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((HOST, 0))
        port = reserved.getsockname()[1]
    except OSError as error:
        reserved.close()
        raise ParallelError(f"no port of {HOST} can be used: {error.strerror or error}") from None
    if sys.platform == "linux":
        return reserved, port
    reserved.close()
    return None, port
