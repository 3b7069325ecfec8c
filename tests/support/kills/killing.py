"""Kills at chosen points, and at random moments."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

from kills.training import FORMS, Training, wait

#: the signals of a kill, in succession
WAYS = {
    "KILL": [signal.SIGKILL],
    "TERM": [signal.SIGTERM],
    "INT": [signal.SIGINT],
    "INT twice": [signal.SIGINT, signal.SIGINT],
}
#: the exit status of a training that was killed: 0 after a last snapshot, 128 + the signal, or ended by the signal
ENDS = (0, 130, 143, -signal.SIGKILL, -signal.SIGTERM)


class Point:
    """Hook of a training that kills its process at call number `at` of the hook, from 0."""

    def __init__(self, at: int, way: str) -> None:
        self._left, self._way = at, way

    def __call__(self, name: str) -> None:
        self._left -= 1
        if self._left == -1:
            for number in WAYS[self._way]:
                os.kill(os.getpid(), number)


def points(training: Training) -> list[str]:
    """Run a training and return the names with which its hook is called."""
    path = training.folder / "points"
    with open(path, "w", buffering=1) as file:
        status = wait(training.start(lambda name: print(name, file=file)))
    assert status == 0, training.output()
    return path.read_text().splitlines()


def reference(training: Training) -> dict:
    """Run a training to its end and return its result."""
    status = wait(training.start())
    assert status == 0, training.output()
    return training.result()


def differences(found: dict, expected: dict) -> str:
    """Return the names of what differs in two results of a training; '' if nothing does."""
    return ", ".join(name for name in expected if found.get(name) != expected[name])


class RandomKills:
    """Trainings in `folder` that are killed at random moments and resumed; `killed` counts the kills by their ways."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.killed: Counter[str] = Counter()
        self.trainings = 0
        self._random = random.Random(seed)
        self._expected, self._seconds = {}, {}
        for form in FORMS:
            began = time.monotonic()
            self._expected[form] = reference(Training(folder / f"whole_{form}", form))
            self._seconds[form] = time.monotonic() - began

    def run(self, kills: int) -> str:
        """Kill so many times; return the first fault, whose training is left in the folder, or ''."""
        while sum(self.killed.values()) < kills:
            form = self._random.choice(list(FORMS))
            training = Training(self.folder / f"killed_{self.trainings}", form)
            if fault := self._to_the_end(training):
                return f"{training.folder}: {fault}"
            self.trainings += 1
            shutil.rmtree(training.folder)
        return ""

    def _to_the_end(self, training: Training) -> str:
        """Kill and resume a training until it is finished; return a fault or ''."""
        finished = False
        while not finished:
            status, finished = self._start_and_kill(training)
            if status not in ((0,) if finished else ENDS):
                return f"status {status}: {training.output()[-1500:]}"
            if fault := training.check():
                return fault
        differ = differences(training.result(), self._expected[training.form])
        return f"not what the uninterrupted run gives: {differ}" if differ else ""

    def _start_and_kill(self, training: Training) -> tuple[int, bool]:
        """Start or resume a training and kill it at a random moment; return its status, and whether it ended before.

        The moments adapt to the speed of the machine: about seven of eight trainings are killed before they end.
        """
        way = self._random.choice(list(WAYS))
        pid = training.start()
        time.sleep(self._random.uniform(0, self._seconds[training.form]))
        ended, status = os.waitpid(pid, os.WNOHANG)
        self._seconds[training.form] *= 0.7 if ended else 1.05
        if ended:
            return os.waitstatus_to_exitcode(status), True
        for number in WAYS[way]:
            os.kill(pid, number)
            time.sleep(self._random.choice([0, 0.001, 0.01]))
        self.killed[way] += 1
        return wait(pid), False
