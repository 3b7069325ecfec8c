"""How far each rank has come, how long it waits for the others, and which ranks are slow."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from minicaffe.errors import listed

WAIT_SECONDS = 10.0  #: after which the ranks that the others wait for are named; again after two, four, ... times that
SILENT_SECONDS = 5.0  #: a rank that has sent nothing for so long counts as one that the others wait for
WINDOW_SECONDS = 30.0  #: over which the work per iteration is measured
SLOW, NOT_SLOW = (
    1.5,
    1.2,
)  #: a rank is named above the first ratio to the others' median, and again once below the second
LEAST_SECONDS = 0.005  #: smaller differences are not named


@dataclass
class Beat:
    """What a rank states regularly.

    iteration: the last one whose exchange it has begun.  iterations: how many it has begun.
    calls: how many collective calls it has begun.  waits: seconds since the last began; -1.0 if it has ended.
    pausing: whether that call waits for tests or snapshots of the root.  work: seconds between calls, in total.
    """

    iteration: int = 0
    iterations: int = 0
    calls: int = 0
    waits: float = -1.0
    pausing: bool = False
    work: float = 0.0


class Pace:
    """What this rank does; `beat` may be called by another thread.

    clock: seconds (default: `time.monotonic`).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._beat = Beat()
        self._since = 0.0  # when the call began, or the last one ended

    def reached(self, iteration: int) -> None:
        """Record that the gradients of an iteration are computed."""
        with self._lock:
            if not self._beat.iterations:  # what was before is the building of nets
                self._since = self._clock()
            self._beat.iteration = iteration
            self._beat.iterations += 1

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of a collective call as no work of this rank."""
        with self._lock:
            now = self._clock()
            if self._beat.iterations and not self._beat.pausing:
                self._beat.work += now - self._since
            self._since, self._beat.waits = now, 0.0
            self._beat.calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._since, self._beat.waits = self._clock(), -1.0

    @contextlib.contextmanager
    def pausing(self) -> Iterator[None]:
        """Mark the calls of the block: the others wait for tests or snapshots of the root, which count as no work."""
        self._beat.pausing = True
        try:
            yield
        finally:
            self._beat.pausing = False

    def skip(self, seconds: float) -> None:
        """Do not count the last `seconds`, in which the process was stopped."""
        with self._lock:
            self._since += seconds

    def beat(self) -> Beat:
        """Return what this rank does now."""
        with self._lock:
            waits = self._beat.waits
            return replace(self._beat, waits=max(self._clock() - self._since, 0.0) if waits >= 0 else waits)


class Silence:
    """When the other processes were heard last.  The time in which this process was stopped itself is not counted.

    limit: seconds after which a process is lost.  tick: seconds between the calls of `gap`, about.
    """

    def __init__(self, limit: float, tick: float, now: float) -> None:
        self.limit, self._tick, self._now = limit, tick, now
        self._heard: dict[int, float] = {}

    def heard(self, rank: int, now: float) -> None:
        """Record a message of a rank."""
        self._heard[rank] = now

    def gap(self, now: float) -> float:
        """Return for how many seconds this process was stopped since the last call; 0.0 for less than some ticks."""
        gap = now - self._now - self._tick
        self._now = now
        if gap < 3 * self._tick:
            return 0.0
        self._heard = {rank: then + gap for rank, then in self._heard.items()}
        return gap

    def of(self, rank: int, now: float) -> float:
        """Return for how many seconds nothing was heard of a rank."""
        return now - self._heard.get(rank, now)

    def lost(self, now: float) -> list[int]:
        """Return the ranks that were not heard for longer than the limit."""
        return [rank for rank in self._heard if self.of(rank, now) > self.limit]


def left_early(beats: Mapping[int, Beat], finished: set[int], patience: float) -> int | None:
    """Return a rank that has finished while another one waits for it in a collective call, or goes on; None if none."""
    for rank in sorted(finished):
        for other in beats.keys() - finished:
            waits = beats[other].waits > patience and beats[other].calls > beats[rank].calls
            if waits or beats[other].iterations > beats[rank].iterations:
                return rank
    return None


class _Sample(NamedTuple):
    now: float
    work: float
    iterations: int


class SlowRanks:
    """Finds the ranks that the others wait for, and those whose own work takes longer.

    names: of all ranks, such as "3 (host, process 7)".
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._named_at = WAIT_SECONDS  # how long a wait is the next time it is named
        self._samples: list[deque[_Sample]] = [deque() for _ in names]
        self._slow: set[int] = set()

    def waits(self, beats: Mapping[int, Beat], silent: set[int]) -> str:
        """Return a sentence about the ranks that the others wait for, if it is time for one; "" otherwise.

        silent: ranks that have sent nothing lately.
        """
        last = max((beat.calls for beat in beats.values()), default=0)
        there = {rank for rank, beat in beats.items() if beat.calls == last and beat.waits >= 0} - silent
        late = sorted(beats.keys() - there)
        waited = min((beats[rank].waits for rank in there), default=0.0)
        if not late or waited < WAIT_SECONDS or any(beats[rank].pausing for rank in there):
            if waited < WAIT_SECONDS:
                self._named_at = WAIT_SECONDS
            return ""
        if waited < self._named_at:
            return ""
        while self._named_at <= waited:
            self._named_at *= 2
        iteration = max(beats[rank].iteration for rank in there)
        ranks = f"rank{'s' if len(late) > 1 else ''} {listed(self._names[rank] for rank in late)}"
        return f"Waiting for {ranks} at iteration {iteration} for {waited:.0f} s"

    def work(self, beats: Mapping[int, Beat], now: float) -> list[str]:
        """Return a sentence for each rank whose own work per iteration has become much longer than the others'."""
        seconds = {}
        for rank, beat in beats.items():
            per_iteration = self._per_iteration(self._samples[rank], _Sample(now, beat.work, beat.iterations))
            if per_iteration is not None:
                seconds[rank] = per_iteration
        sentences = []
        for rank in seconds if len(seconds) == len(self._names) else ():
            others = statistics.median(seconds[other] for other in seconds if other != rank)
            if seconds[rank] < NOT_SLOW * others:
                self._slow.discard(rank)
            elif seconds[rank] > max(SLOW * others, others + LEAST_SECONDS) and rank not in self._slow:
                self._slow.add(rank)
                sentences.append(
                    f"Rank {self._names[rank]} takes {seconds[rank]:.2g} s per iteration, the others {others:.2g} s"
                )
        return sentences

    @staticmethod
    def _per_iteration(samples: deque[_Sample], sample: _Sample) -> float | None:
        """Add a sample; return the seconds of work per iteration over the last `WINDOW_SECONDS`, None if unknown yet.

        The window is longer if it has fewer than three iterations.
        """
        samples.append(sample)
        while len(samples) > 2 and _long_enough(samples[1], sample):
            samples.popleft()
        if not _long_enough(samples[0], sample):
            return None
        return (sample.work - samples[0].work) / (sample.iterations - samples[0].iterations)


def _long_enough(first: _Sample, last: _Sample) -> bool:
    return last.now - first.now >= WINDOW_SECONDS and last.iterations - first.iterations >= 3
