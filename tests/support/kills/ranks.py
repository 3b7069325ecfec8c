"""The training of training.py in several ranks, which are killed one at a time, or with their launcher."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from kills.killing import ENDS, WAYS, differences
from kills.training import Training, _Recorder
from minicaffe import parallel, solvers
from minicaffe.cli import main, signals
from minicaffe.parallel.sockets import free_address

SECONDS = 60  #: in which all processes have to end after a kill: more than the watch needs, as the machine may be busy
_KNOWN = (*ENDS, 1, 137)  #: 1: of a rank, ended with another one; 137: of a launcher, one of its ranks was killed
_WORDS = ["train", "--solver", "solver.prototxt", "--snapshot", "auto", "--keep", "2", "--best", "loss"]


class RankTraining(Training):
    """The training in `size` ranks: forked processes, or those that `minicaffe train --workers` starts.

    pids: of the ranks, of a launcher first; set by `start`.  statuses: of those that have ended.
    """

    def __init__(self, folder: Path, form: str, size: int) -> None:
        super().__init__(folder, form)
        self.size = size
        self.pids: list[int] = []
        self.statuses: dict[int, int] = {}

    def start_ranks(self) -> None:
        """Start the ranks, and wait until all have joined."""
        port = free_address()[1]
        for path in self.folder.glob("joined*"):
            path.unlink()
        self.statuses = {}
        self.pids = [self._fork(lambda rank=rank: self._rank(rank, port)) for rank in range(self.size)]
        while len(list(self.folder.glob("joined*"))) < self.size and not self._collected():
            time.sleep(0.001)

    def start_launcher(self) -> None:
        """Start the launcher, and do not wait for the ranks."""
        self.statuses = {}
        self.pids = [self._fork(self._launcher)]

    def find_workers(self) -> list[int]:
        """Add the processes that the launcher has started so far to `pids`; return them."""
        try:
            found = Path(f"/proc/{self.pids[0]}/task/{self.pids[0]}/children").read_text().split()
        except OSError:
            found = []
        self.pids[1:] = [int(pid) for pid in found]
        return self.pids[1:]

    def wait_for_all(self) -> str:
        """Wait until all processes have ended; return a fault, if they do not, or with an unknown status, or ''."""
        end = time.monotonic() + SECONDS
        while not self._collected() and time.monotonic() < end:
            time.sleep(0.002)
        left = [pid for pid in self.pids if pid not in self.statuses]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        if left:
            return f"{len(left)} of {len(self.pids)} processes hang: {self.output()[-1500:]}"
        unknown = [status for status in self.statuses.values() if status not in _KNOWN]
        return f"statuses {unknown}: {self.output()[-1500:]}" if unknown else ""

    def result(self) -> dict[str, Any]:
        """Return what `Training.result` does; without what was displayed if the launcher has started the ranks."""
        (self.folder / "displayed").touch()
        found = super().result()
        if not found["displayed"]:
            del found["displayed"]
        return found

    def _collected(self) -> bool:
        """Note which processes have ended; return whether all have."""
        for pid in self.pids:
            if pid not in self.statuses and (status := _status(pid)) is not None:
                self.statuses[pid] = status
        return len(self.statuses) == len(self.pids)

    # -- in the forked processes -----------------------------------------------------------------------------------

    def _rank(self, rank: int, port: int) -> int:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": self.size, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in names.items()})
        get_solver, start = solvers.get_solver, parallel.start

        def observed(source: Any) -> Any:
            solver = get_solver(source)
            if rank == 0:
                solver.observers.append(_Recorder(None))
            return solver

        def joining() -> Any:
            group = start()
            Path(f"joined{rank}").touch()
            return group

        solvers.get_solver, parallel.start = observed, joining
        signals.GRACE = 0  # a second signal stops at once
        return main(_WORDS)

    def _launcher(self) -> int:
        for descriptor in (1, 2):
            os.dup2(sys.stdout.fileno(), descriptor)
        signals.GRACE = 0
        return main([*_WORDS, "--workers", str(self.size)])


def _status(pid: int) -> int | None:
    """Return the status of a process that has ended, -SIGKILL for one that is no child of this; None if it runs."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if ended else None
    except ChildProcessError:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            state = ""
        return None if state not in ("", "Z") else -signal.SIGKILL


class RandomRankKills:
    """Trainings of several ranks in `folder`, one of which is killed at random moments; `killed` counts by ways.

    launched: the part of the trainings that the launcher starts (default: one of four).
    expected: the result of the uninterrupted training.
    longest: the longest time in seconds from a kill until all processes have ended, by ways; a first SIGTERM or SIGINT
        lets the training write a snapshot.
    """

    def __init__(self, folder: Path, seed: int, size: int, launched: float = 0.25) -> None:
        self.folder, self.size = folder, size
        self.killed: Counter[str] = Counter()
        self._wanted = 0
        self.trainings = 0
        self.longest: dict[str, float] = {}
        self._launched = launched
        self._random = random.Random(seed)
        whole = RankTraining(folder / "whole", "HDF5", size)
        whole.start_ranks()
        began = time.monotonic()
        fault = whole.wait_for_all()
        assert not fault and not any(whole.statuses.values()), fault or whole.output()
        self.expected = whole.result()
        self._seconds = {False: time.monotonic() - began, True: 8.0}

    def run(self, kills: int) -> str:
        """Kill so many times; return the first fault, whose training is left in the folder, or ''.

        The last training is resumed to its end.
        """
        self._wanted = sum(self.killed.values()) + kills
        while sum(self.killed.values()) < self._wanted:
            training = RankTraining(self.folder / f"killed_{self.trainings}", "HDF5", self.size)
            if fault := self._to_the_end(training, self._random.random() < self._launched):
                return f"{training.folder}: {fault}"
            self.trainings += 1
            shutil.rmtree(training.folder)
        return ""

    def _to_the_end(self, training: RankTraining, launched: bool) -> str:
        """Kill and resume a training until it is finished; return a fault or ''."""
        finished = False
        while not finished:
            began = len(training.output()) if (training.folder / "output").exists() else 0
            finished, fault = self._start_and_kill(training, launched)
            printed = training.output()[began:]
            sentences = [line for line in printed.splitlines() if line.startswith("minicaffe: ")]
            if len(sentences) > 1:
                fault = fault or f"more than one sentence: {sentences}"
            if finished and any(training.statuses.values()):
                fault = fault or f"statuses {training.statuses}"
            if fault := fault or training.check():
                return fault
        found = training.result()
        differ = differences(found, {name: self.expected[name] for name in found})
        return f"not what the uninterrupted run gives: {differ}" if differ else ""

    def _start_and_kill(self, training: RankTraining, launched: bool) -> tuple[bool, str]:
        """Start or resume a training and kill a process at a random moment; return whether it ended before, a fault."""
        way = self._random.choice(list(WAYS))
        training.start_launcher() if launched else training.start_ranks()
        if sum(self.killed.values()) >= self._wanted:
            return True, training.wait_for_all()
        time.sleep(self._random.uniform(0, self._seconds[launched]))
        workers = training.find_workers() if launched else []
        ended = training._collected()
        self._seconds[launched] *= 0.7 if ended else 1.05
        if ended:
            return True, training.wait_for_all()
        # signals of a rank that is not the launcher's: the launcher forwards its own to the root
        victim = self._random.choice([training.pids[0], *workers] if launched else training.pids)
        for number in WAYS[way]:
            try:
                os.kill(victim, number)
            except ProcessLookupError:  # it ended in between
                break
            time.sleep(self._random.choice([0, 0.001, 0.01]))
        began = time.monotonic()
        whom = "launcher" if launched and victim == training.pids[0] else "worker" if launched else "rank"
        killed = f"{way} of a {whom}"
        self.killed[killed] += 1
        fault = training.wait_for_all()
        self.longest[killed] = max(self.longest.get(killed, 0.0), time.monotonic() - began)
        return False, fault
