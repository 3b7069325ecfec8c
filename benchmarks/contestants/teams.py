"""Teams: contestants whose ranks train together, each rank in a process of its own, pinned to its cores.

A team's processes wait in the kernel, without using a core, while the benchmark times another one.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from contestants import rank_process
from minicaffe.parallel.sockets import free_address

_PATIENCE = 120.0  #: seconds until all ranks of a team must have connected
_STATED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MINICAFFE_TOKEN")


@dataclass(frozen=True)
class Plan:
    """How a team is started.

    kind, variant: of `contestants.ranks`; workers: processes; threads: of each; launcher: "" for torchrun's variables,
    "mpiexec"; python: the interpreter.
    """

    name: str
    kind: str
    variant: str
    workers: int
    threads: int
    launcher: str = ""
    python: str = sys.executable

    @property
    def cores(self) -> int:
        """The cores that the team uses."""
        return self.workers * self.threads


@dataclass
class Result:
    """Times of a team's iterations: seconds of each, and by rank the seconds of it in sums over the ranks."""

    plan: Plan
    batch: int  #: of all workers together
    seconds: list[float]
    summing: list[list[float]]

    @property
    def median(self) -> float:
        """Seconds of an iteration."""
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.batch / self.median

    @property
    def shares(self) -> tuple[float, float] | None:
        """Parts of an iteration in sums: the mean over the ranks, and the least rank's; None if they are not timed."""
        medians = [statistics.median(times) / self.median for times in self.summing]
        return (statistics.mean(medians), min(medians)) if any(medians) else None

    def add(self, answers: list[list[tuple[float, float]]]) -> None:
        """Take in what `run_steps` has returned: the seconds of the root's iterations, and all ranks' sums."""
        self.seconds += [seconds for seconds, _ in answers[0]]
        for times, answer in zip(self.summing, answers, strict=True):
            times += [summing for _, summing in answer]


class Team:
    """The processes of a plan, connected; `ask` sends a command to all of them.

    Raises RuntimeError where a rank cannot start, or has ended: with the last line of what it has printed.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.name = plan, plan.name
        self._output = tempfile.TemporaryFile("w+")
        self._token = secrets.token_hex(16)
        self._processes: list[subprocess.Popen] = []
        self._lines: list[Any] = []
        try:
            with socket.create_server(("127.0.0.1", 0), backlog=plan.workers) as listener:
                self._processes = self._start(listener.getsockname()[1])
                self._lines = self._accept(listener)
        except BaseException:
            self.end()
            raise

    def _start(self, port: int) -> list[subprocess.Popen]:
        plan = self.plan
        allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        commands = []
        for rank in range(plan.workers):
            cores = allowed[rank * plan.threads : (rank + 1) * plan.threads] if plan.cores <= len(allowed) else []
            settings = {"kind": plan.kind, "variant": plan.variant, "threads": plan.threads, "cores": cores}
            settings |= {"port": port, "token": self._token}
            commands.append([plan.python, rank_process.__file__, json.dumps(settings)])
        if plan.launcher:
            words = [_found(plan.launcher)]
            for command in commands:
                words += [*([":"] if len(words) > 1 else []), "-n", "1", *command]
            return [self._process(words, {})]
        host, meeting = free_address()
        shared = {"WORLD_SIZE": plan.workers, "MASTER_ADDR": host, "MASTER_PORT": meeting}
        shared |= {"LOCAL_WORLD_SIZE": plan.workers, "MINICAFFE_TOKEN": self._token}
        return [self._process(c, {**shared, "RANK": i, "LOCAL_RANK": i}) for i, c in enumerate(commands)]

    def _process(self, words: list[str], variables: dict[str, Any]) -> subprocess.Popen:
        environment = {name: value for name, value in os.environ.items() if name not in _STATED}
        environment |= {name: str(value) for name, value in variables.items()}
        environment |= {"OMP_NUM_THREADS": str(self.plan.threads), "PYTHONWARNINGS": "ignore"}
        return subprocess.Popen(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output
        )

    def _accept(self, listener: socket.socket) -> list[Any]:
        """Return the connections to the ranks, in their order."""
        found: dict[int, Any] = {}
        listener.settimeout(0.2)
        end = time.monotonic() + _PATIENCE
        while len(found) < self.plan.workers:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                if any(process.poll() is not None for process in self._processes) or time.monotonic() > end:
                    raise RuntimeError(f"a rank did not start: {self._last_line()}") from None
                continue
            connection.settimeout(None)
            lines = connection.makefile("rw")
            connection.close()  # the file keeps it open
            token, rank = json.loads(lines.readline())
            if secrets.compare_digest(token, self._token):
                found[rank] = lines
        return [found[rank] for rank in range(self.plan.workers)]

    def ask(self, *command: Any) -> list[Any]:
        """Let all ranks execute a method of `contestants.ranks`; return their values in the order of the ranks."""
        try:
            for lines in self._lines:
                rank_process.send(lines, command)
            answers = [json.loads(lines.readline()) for lines in self._lines]
        except (OSError, ValueError):
            raise RuntimeError(f"a rank has ended: {self._last_line()}") from None
        for kind, value in answers:
            if kind == "error":
                raise RuntimeError(value)
        return [value for _, value in answers]

    def end(self) -> None:
        """End the processes: a rank ends when its connection does."""
        for lines in self._lines:
            lines.close()
        for process in self._processes:
            try:
                process.wait(2 if self._lines else 0)
            except subprocess.TimeoutExpired:
                process.terminate()
                process.wait(10)
        self._output.close()

    def _last_line(self) -> str:
        self._output.seek(0)
        return (self._output.read().strip().splitlines() or ["it has printed nothing"])[-1][:200]


def _found(program: str) -> str:
    """Return the path of a program beside the interpreter, or in PATH.  RuntimeError if there is none."""
    beside = os.path.join(os.path.dirname(sys.executable), program)
    path = beside if os.path.exists(beside) else shutil.which(program)
    if path is None:
        raise RuntimeError(f"there is no {program}")
    return path
