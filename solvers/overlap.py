"""The sum of the gradients over the ranks: after the passes, or in parts while the backward pass goes on.

All gradients are in one flat buffer, in the order in which the backward pass completes them.  On shared memory one sum
of the whole buffer is fastest.  On a network a sum may take as long as the backward pass, and needs few instructions:
the last backward pass of an iteration then runs in segments of layers, and after each the gradients that are complete
are summed in a thread (`BackgroundSums`).  Which numbers are added, and in which order, is the same in both ways, so
that results are equal to the bit; only time decides (`Overlap`).
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.places import HOST
from minicaffe.core.settings import settings
from minicaffe.errors import ParallelError, UsageError
from minicaffe.parallel.background import BackgroundSums
from minicaffe.parallel.cost import Cost, measure
from minicaffe.parallel.group import Group

log = logging.getLogger("minicaffe")

MODES = ("auto", "never", "always")
VARIABLE = "MINICAFFE_OVERLAP"  #: the environment variable with the mode
RUNS = 3  #: iterations in which each way is timed, after one that is not counted
SHARE = 0.1  #: of the backward pass's time; a sum that takes less is not worth hiding
GAIN = 0.95  #: overlapping is chosen if it takes less than this part of the time
MOST_PARTS = 8
LEAST_BYTES = 1 << 16  #: of a part
LATENCY = 0.25  #: of the time that the bytes of a part take: alpha may add at most this


class Part(NamedTuple):
    """Parameters whose gradients are summed together.

    layer: the index of the layer after whose backward pass the gradients of these parameters are complete.
    params: how many parameters, in the reversed order of the net's.
    """

    layer: int
    params: int


class Times(NamedTuple):
    """Seconds of the last backward pass of an iteration, infinite on a GPU, and of what the sum takes after it."""

    backward: float
    sum: float


class Overlap:
    """Sums the gradients of a solver's net over the ranks.

    group: the ranks.
    mode: "never": in one sum after the passes.  "always": in parts during the last backward pass of an iteration.
        "auto": the faster of the two, as the first iterations show.  None (default): the environment variable
        MINICAFFE_OVERLAP, or else "auto".  The root's value is that of all ranks.
    part_bytes: the least bytes of a part; None (default): computed from the group's cost (`parallel/cost.py`).

    In "auto" the passes and the sum are timed.  If the sum takes at least a tenth of the backward pass, the next
    iterations are run with overlap, and it stays if that is faster.  All ranks change at the same iteration.
    A rank whose net has callbacks or `debug_info`, shares the memory of diffs, or runs on a GPU does the same sums, but
    after its pass.
    Raises UsageError for an unknown mode.
    """

    def __init__(self, group: Group, mode: str | None = None, part_bytes: int | None = None) -> None:
        mode = os.environ.get(VARIABLE, "auto") if mode is None else mode
        if mode not in MODES:
            raise UsageError(f"{VARIABLE}: expected one of {', '.join(MODES)}, got '{mode}'")
        self.group, self._mode, self._part_bytes = group, mode, part_bytes
        self._sums: BackgroundSums | None = None  # None: one sum after the passes
        self._parts: Sequence[Part] = ()  # all but the last one, which has the rest of the buffer
        self._added = self._blobs = self._end = 0  # in this iteration: parts, their parameters and numbers
        self._decided = group.size == 1
        self._backward = math.inf  # seconds of the last backward pass on the host
        self._times: list[Times] = []  # of the iterations that are compared
        self._after = Times(0.0, 0.0)  # without overlap

    @property
    def parts(self) -> int:
        """In how many parts the gradients are summed now."""
        return len(self._parts) + 1

    # -- in each iteration -------------------------------------------------------------------------------------------

    def run_backward(self, net: Any, blobs: Sequence[Blob], flat: np.ndarray) -> None:
        """Run the last backward pass of an iteration; begin the sums of the gradients that it completes.

        blobs, flat: as for `sum`.
        """
        if self._added:
            raise ParallelError(
                "an error has ended the last iteration after some of its gradients were summed, so the ranks differ: "
                "start all of them again, from a snapshot"
            )
        if settings.engine.place is not HOST:
            net.run_backward()
            return
        began = time.perf_counter()

        def passed(layer: int) -> None:
            while self._added < len(self._parts) and layer <= self._parts[self._added].layer:
                self._add_part(blobs, flat)

        net.run_backward(passed if self._parts else None)
        self._backward = time.perf_counter() - began

    def sum(self, net: Any, blobs: Sequence[Blob], flat: np.ndarray) -> None:
        """Set the buffer to the sums over the ranks of the diffs of `blobs`, the last one's first.

        blobs: parameters of the net, in its order.
        flat: as many numbers as the blobs have, and others, which are summed as they are.
        """
        began = time.perf_counter()
        while self._added < len(self._parts):
            self._add_part(blobs, flat)
        first = self._end
        self._copy(blobs, flat, len(blobs) - self._blobs)
        if self._sums is None:
            self.group.sum(flat)
        else:
            self._sums.add(flat[first:])
            with self.group.waiting():
                self._sums.wait()
        self._added = self._blobs = self._end = 0
        if not self._decided:
            self._decide(net, blobs, flat.nbytes, Times(self._backward, time.perf_counter() - began))
        self._backward = math.inf

    def _add_part(self, blobs: Sequence[Blob], flat: np.ndarray) -> None:
        """Begin the sum of the next part."""
        assert self._sums is not None  # it begins with the parts
        first = self._end
        self._copy(blobs, flat, self._parts[self._added].params)
        self._sums.add(flat[first : self._end])
        self._added += 1

    def _copy(self, blobs: Sequence[Blob], flat: np.ndarray, count: int) -> None:
        """Copy the diffs of the next `count` parameters to the buffer."""
        blobs = blobs[::-1][self._blobs : self._blobs + count]
        end = self._end + sum(blob.count for blob in blobs)
        if blobs:
            np.concatenate([blob.read_diff().reshape(-1) for blob in blobs], out=flat[self._end : end])
        self._blobs, self._end = self._blobs + count, end

    # -- the choice --------------------------------------------------------------------------------------------------

    def _decide(self, net: Any, blobs: Sequence[Blob], nbytes: int, times: Times) -> None:
        """Choose a way, after the first iteration or when enough have been timed.  Collective.

        nbytes: of the buffer.  times: of this iteration.
        """
        if not self._times and not self._parts:
            self._mode = self.group.share(self._mode)
        if self._mode == "auto":
            self._times.append(times)
            if len(self._times) <= RUNS:
                return
            best, self._times = self._best(), []
            if self._parts:
                self._end_trial(best)
            else:
                self._begin_trial(net, blobs, nbytes, best)
            return
        if self._mode == "always":
            self._divide(net, blobs, nbytes)
        self._conclude(f" ({VARIABLE}={self._mode})")

    def _best(self) -> Times:
        """Return, at the root, the times of the fastest iteration, on the slowest rank.

        A rank that is fast waits in its sum for the others, so the shortest sum counts.
        """
        every = self.group.gather(min(self._times[1:], key=sum))
        total, seconds = max(map(sum, every), default=0.0), min((times[1] for times in every), default=0.0)
        return Times(total - seconds, seconds)

    def _begin_trial(self, net: Any, blobs: Sequence[Blob], nbytes: int, after: Times) -> None:
        """Overlap in the next iterations, if that can save time.  after: the times without."""
        self._after = after
        if self.group.share(nbytes >= 2 * LEAST_BYTES and SHARE * after.backward < after.sum < math.inf):
            self._divide(net, blobs, nbytes)
        if not self._parts:
            self._conclude(_figures(after))

    def _end_trial(self, during: Times) -> None:
        """Keep the way that is faster.  during: the times with overlap."""
        tried = f"in {self.parts} parts during the backward pass both take {1000 * sum(during):.3g} ms"
        if self.group.share(sum(during) < GAIN * sum(self._after)):
            self._conclude(f": both take {1000 * sum(during):.3g} ms instead of {1000 * sum(self._after):.3g} ms")
        else:
            self.close()
            self._conclude(f"{_figures(self._after)}; {tried}")

    def _divide(self, net: Any, blobs: Sequence[Blob], nbytes: int) -> None:
        """Sum the gradients in parts from the next iteration on, if there is more than one part."""
        least: float | None = self._part_bytes
        if least is None:
            least = part_bytes(measure(self.group), nbytes)
            if self._mode == "always":
                least = min(least, nbytes / 2)
        self._parts = [Part(*part) for part in self.group.share(plan(net, blobs, least))]
        if self._parts:
            self._sums = BackgroundSums(self.group.channel("gradients"))

    def _conclude(self, figures: str) -> None:
        """Keep the present way; log it, with the figures that it was chosen by, at the root."""
        self._decided = True
        if self.group.root:
            way = f"in {self.parts} parts during the backward pass" if self._parts else "after the passes"
            log.info("Gradients are summed %s%s", way, figures)

    def close(self) -> None:
        """End the thread; gradients are summed after the passes from now on.  All ranks do so at the same time."""
        if self._sums is not None:
            self._sums.close()
        self._sums, self._parts = None, ()


def _figures(after: Times) -> str:
    """Return the end of a log line: which part of the time the sum takes."""
    return f": {1000 * after.sum:.3g} ms of {1000 * sum(after):.3g} ms" if sum(after) < math.inf else ""


def part_bytes(cost: Cost, nbytes: int) -> float:
    """Return the least bytes of a part: alpha is a small part of its time, and there are not too many parts."""
    worth = cost.alpha / (LATENCY * cost.beta) if cost.beta else math.inf
    return max(worth, nbytes / MOST_PARTS, LEAST_BYTES)


def plan(net: Any, blobs: Sequence[Blob], least: float) -> list[Part]:
    """Return the parts but the last one, which has all other parameters; [] if there is only one part.

    blobs: parameters of the net, in its order.  least: bytes of a part, at least.
    """
    ready = _completed_by(net)
    blobs = blobs[::-1]
    parts: list[Part] = []
    layer, count, nbytes = len(net.layers), 0, 0
    for blob, following in zip(blobs, [*blobs[1:], None]):
        layer = min(layer, ready[blob.diff_memory])
        count, nbytes = count + 1, nbytes + blob.count * blob.dtype.itemsize
        if following is not None and ready[following.diff_memory] < layer and nbytes >= least:
            parts.append(Part(layer, count))
            count = nbytes = 0
    return parts


def _completed_by(net: Any) -> dict[Any, int]:
    """Return, for the memory of each parameter's diff, the layer whose backward pass completes it.

    This is the first of the layers that share the parameter: it runs backward last.
    """
    found: dict[Any, int] = {}
    for i, layer in enumerate(net.layers):
        for blob in layer.blobs:
            found.setdefault(blob.diff_memory, i)
    return found
