"""What the solvers of one training exchange: the state they start from, gradients, requests, states for snapshots.

Each process has a solver with a net of its own, which reads its share of the data.  As in the original, gradients are
averaged once per iteration, after all passes of `iter_size` and before they are clipped, scaled and regularised; every
solver then makes the same update.  The root (rank 0) tests, logs and writes snapshots; its losses are those of its own
batches.  Source: Caffe's parallel.cpp.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.parallel.group import ALONE, Group

log = logging.getLogger("minicaffe")

REQUESTS = ("stop", "snapshot")  #: what any rank may request, and all carry out at the same iteration


class Ranks:
    """The solver's place in its group.

    group: the processes that train together; `ALONE` (default): there are no others, and nothing is exchanged.
    """

    def __init__(self, group: Group = ALONE) -> None:
        self.group = group
        self._wishes: set[str] = set()  # requests of this rank that the others have not got yet
        self._agreed: tuple[str, ...] = ()  # requests of any rank, which all carry out at this point
        self._begun = group.size == 1
        self._flat: np.ndarray | None = None  # all diffs, then one number for each of REQUESTS

    @property
    def several(self) -> bool:
        """Whether there are other ranks."""
        return self.group.size > 1

    @property
    def root(self) -> bool:
        """Whether this rank tests, logs and writes snapshots."""
        return self.group.root

    # -- the state that all begin with -------------------------------------------------------------------------------

    def begin(self, solver: Any) -> None:
        """Give all solvers the root's parameters, history and iteration; does nothing until `begin_again` if it has."""
        if self._begun:
            return
        progress = self.group.share([solver.iter, solver.current_step, solver.losses])
        solver.iter, solver.current_step, solver.losses = progress
        for blob in (*_parameters(solver.net), *solver.history):
            self.group.broadcast(blob.data.reshape(-1))
        self._begun = True

    def begin_again(self) -> None:
        """Let `begin` exchange the state again, since the root has restored another."""
        self._begun = not self.several

    # -- in each iteration -------------------------------------------------------------------------------------------

    def average(self, solver: Any) -> None:
        """Replace the diffs of all parameters by their means over the ranks, and agree on requests; a gradient hook."""
        if solver.engine_step.averages:
            solver.engine_step.average()
            return
        diffs = [blob.diff.reshape(-1) for blob in solver.net.learnable_params]
        count = sum(diff.size for diff in diffs)
        if self._flat is None or self._flat.size != count + len(REQUESTS):
            dtype = diffs[0].dtype if diffs else np.float32
            self._flat = np.empty(count + len(REQUESTS), dtype)
        if diffs:
            np.concatenate(diffs, out=self._flat[:count])
        self._flat[count:] = self._own_requests(solver)
        self.group.sum(self._flat)
        start = 0
        for diff in diffs:
            np.multiply(self._flat[start : start + diff.size], 1 / self.group.size, out=diff)
            start += diff.size
        self._agree_on(self._flat[count:])

    # -- requests ----------------------------------------------------------------------------------------------------

    def wish(self, request: str) -> None:
        """Let all ranks carry out a request at the next point where they agree."""
        self._wishes.add(request)

    def after_iteration(self, solver: Any) -> Sequence[str]:
        """Return the requests to carry out after an iteration: any rank's, exchanged with the gradients."""
        if self.several:
            return self._agreed
        request = solver.action()
        return () if request is None else (request,)

    def after_test(self, solver: Any) -> Sequence[str]:
        """Return the requests to carry out after tests, which only the root runs."""
        if self.several:
            self.agree(solver)
        return self._agreed

    def agree(self, solver: Any) -> None:
        """Exchange requests by themselves: after tests, and if the engine averages the gradients."""
        counts = np.array(self._own_requests(solver), np.float32)
        self.group.sum(counts)
        self._agree_on(counts)

    def stops(self, solver: Any) -> bool:
        """Whether all ranks stop now.  A solver that is alone stops when `Solver.stop` has been called."""
        return "stop" in self._agreed if self.several else solver.stopped

    def _own_requests(self, solver: Any) -> list[float]:
        """Return 1 for each of REQUESTS that this rank requests, 0 for the others."""
        while "stop" not in self._wishes and (request := solver.action()) is not None:
            self.wish(request)
        if solver.stopped:
            self.wish("stop")
        return [float(name in self._wishes) for name in REQUESTS]

    def _agree_on(self, counts: np.ndarray) -> None:
        self._agreed = tuple(name for name, count in zip(REQUESTS, counts) if count > 0)
        self._wishes.clear()

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def gather(self, state: Any) -> list[Any]:
        """Return the states of all ranks at the root, [] at the others; a state is what JSON can hold."""
        return self.group.gather(state)


def _parameters(net: Any) -> list[Blob]:
    """Return all parameters of a net, those that it shares once."""
    return list({id(blob): blob for layer in net.layers for blob in layer.blobs}.values())
