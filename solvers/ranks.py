"""What the solvers of one training exchange: the state they start from, gradients, requests, states for snapshots.

Each process has a solver with a net of its own, which reads its share of the data.  As in the original, gradients are
averaged once per iteration, after all passes of `iter_size` and before they are clipped, scaled and regularised; every
solver then makes the same update.  The root (rank 0) reads files, tests, logs and writes snapshots; its losses are
those of its own batches.  Source: Caffe's parallel.cpp.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.errors import ParallelError, SnapshotError
from minicaffe.parallel.group import ALONE, Group
from minicaffe.solvers import run_state
from minicaffe.solvers.overlap import Overlap

log = logging.getLogger("minicaffe")

#: what a rank may request, and all carry out at the same iteration; "restored": to get the state of the root
REQUESTS = ("stop", "snapshot", "restored")
#: fields of a SolverParameter that may differ between ranks
_OWN_FIELDS = frozenset(
    "net net_param train_net train_net_param test_net test_net_param train_state test_state test_iter "
    "test_compute_loss display average_loss debug_info snapshot_prefix snapshot_diff snapshot_format solver_mode "
    "device_id random_seed weights".split()
)


class Ranks:
    """The solver's place in its group.

    group: the processes that train together; `ALONE` (default): there are no others, and nothing is exchanged.
    """

    def __init__(self, group: Group = ALONE) -> None:
        self.group = group
        self._wishes = {"restored"} if self.several else set()  # requests that the other ranks have not got yet
        self._agreed: Collection[str] = ()  # those of any rank, exchanged with the last gradients
        self._run: dict[str, Any] | None = None  # the run state that the root has restored
        self._exchanged: list[Blob] | None = None  # parameters with gradients
        self._flat: np.ndarray | None = None  # their diffs, then one number for each of REQUESTS
        self.overlap = Overlap(group)

    @property
    def several(self) -> bool:
        """Whether there are other ranks."""
        return self.group.size > 1

    @property
    def root(self) -> bool:
        """Whether this rank reads files, tests, logs and writes snapshots."""
        return self.group.root

    # -- the state that all continue from ----------------------------------------------------------------------------

    def begin(self, solver: Any, iterations: int) -> int:
        """Give all solvers the root's state if it has not been given to them; return the root's number of iterations.

        Called before the first iteration of each `step` or `solve`.
        """
        if not self.several:
            return iterations
        restored, iterations = self.group.share(["restored" in self._wishes, iterations])
        self._wishes.discard("restored")
        if restored:
            self.give_state(solver)
        return iterations

    def restored(self, run: dict[str, Any]) -> None:
        """Let all solvers continue from the state that the root has restored, from the next point where they agree.

        run: the run state of all ranks.
        """
        self._run = run
        if self.several:
            self.request("restored")

    def continue_from(self, before: Ranks) -> None:
        """Take over the run state that was restored when the solver had the ranks `before`."""
        self._run = before._run

    def give_state(self, solver: Any) -> None:
        """Give all solvers parameters, history and progress of the root, and each its part of a run state restored.

        Raises ParallelError, at all ranks, if nets or solvers differ in what must be equal.
        """
        difference = _difference(self.group.gather(_plan(solver)))
        progress = {name: getattr(solver, name) for name in ("iter", "current_step", "last_state")}
        difference, progress, run = self.group.share([difference, progress, self._run])
        if difference:
            raise ParallelError(difference)
        for blob in (*solver.net.learnable_params, *solver.history):
            self.group.broadcast(blob.data.reshape(-1))
        self._run = None
        if not self.root:
            for name, value in progress.items():
                setattr(solver, name, value)
            if run is not None:
                run_state.load_share(solver, run, solver.last_state)
                solver.goes_on()

    # -- in each iteration -------------------------------------------------------------------------------------------

    def run_backward(self, solver: Any) -> None:
        """Run the last backward pass of an iteration; the sum of its gradients may begin meanwhile (`Overlap`)."""
        if self.several and not solver.engine_step.averages:
            self.overlap.run_backward(solver.net, self.exchanged(solver.net), self._buffer(solver.net))
        else:
            solver.net.run_backward()

    def average(self, solver: Any) -> None:
        """Replace the diffs of all parameters by their means over the ranks, and agree on requests; a gradient hook."""
        if solver.engine_step.averages:
            solver.engine_step.average()
            return
        flat = self._buffer(solver.net)
        flat[-len(REQUESTS) :] = self._own_requests(solver, polled=True)
        self.group.reached(solver.iter)
        self.overlap.sum(solver.net, self.exchanged(solver.net), flat)
        start = 0
        for blob in reversed(self.exchanged(solver.net)):
            np.multiply(flat[start : start + blob.count], 1 / self.group.size, out=blob.diff.reshape(-1))
            start += blob.count
        self._agreed = _requests_in(flat[start:])

    def exchanged(self, net: Any) -> list[Blob]:
        """Return the learnable parameters that some layer computes gradients of; the diffs of the others stay 0."""
        if self._exchanged is None:
            self._exchanged = net.shared_params.with_gradients(net.layers, net.layer_need_backward)
        return self._exchanged

    def _buffer(self, net: Any) -> np.ndarray:
        """Return room for the diffs of the parameters with gradients, and one number for each of REQUESTS."""
        if self._flat is None:
            blobs = self.exchanged(net)
            dtype = np.result_type(np.float32, *(blob.dtype for blob in blobs))
            self._flat = np.empty(sum(blob.count for blob in blobs) + len(REQUESTS), dtype)
        return self._flat

    # -- requests ----------------------------------------------------------------------------------------------------

    def request(self, name: str) -> None:
        """Let all ranks carry out one of REQUESTS at the next point where they agree."""
        self._wishes.add(name)

    def after_iteration(self, solver: Any) -> Collection[str]:
        """Return the requests to carry out after an iteration: any rank's, exchanged with the gradients."""
        return self._agreed if self.several else self.agree(solver, polled=True)

    def agree_after_iteration(self, solver: Any) -> None:
        """Exchange the requests of an iteration by themselves: the engine averages its gradients."""
        self._agreed = self.agree(solver, polled=True)

    def agree(self, solver: Any, polled: bool = False) -> Collection[str]:
        """Return the requests of any rank, for all to carry out now: after tests and snapshots.

        polled: whether to call the solver's `action` (default: no).
        """
        counts = np.array(self._own_requests(solver, polled), np.float32)
        if polled:  # once per iteration, where the gradients are exchanged elsewhere
            self.group.reached(solver.iter)
        with contextlib.nullcontext() if polled else self.group.pausing():
            self.group.sum(counts)
        return _requests_in(counts)

    def _own_requests(self, solver: Any, polled: bool) -> list[float]:
        """Return 1 for each of REQUESTS that this rank requests, 0 for the others."""
        request = solver.action() if polled else None
        if request is not None:
            self.request(request)
        if solver.stopped:
            self.request("stop")
        own = [float(name in self._wishes) for name in REQUESTS]
        self._wishes.clear()
        return own

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def gather(self, state: Any) -> list[Any]:
        """Return the states of all ranks at the root, [] at the others; a state is what JSON can hold."""
        return self.group.gather(state) if self.several else [state]

    def at_root(self, work: Callable[[], Any]) -> None:
        """Call `work` at the root; a SnapshotError that it raises is raised at all ranks."""
        failure: SnapshotError | None = None
        if self.root:
            try:
                work()
            except SnapshotError as error:
                failure = error
        with self.group.pausing():
            sentence = self.group.share(str(failure) if failure else None)
        if sentence is not None:
            raise failure or SnapshotError(sentence)


def _requests_in(counts: np.ndarray) -> tuple[str, ...]:
    return tuple(name for name, count in zip(REQUESTS, counts) if count > 0)


def _plan(solver: Any) -> dict[str, str]:
    """Return what must be equal at all ranks: the shapes of parameters, and the fields that the updates depend on."""
    fields = {field.name: str(value) for field, value in solver.param.ListFields() if field.name not in _OWN_FIELDS}
    return {**fields, "shapes of parameters": str([blob.shape for blob in solver.net.learnable_params])}


def _difference(plans: list[dict[str, str]]) -> str:
    """Return a sentence that names the first difference between the plans of the root and another; "" if none."""
    for rank, plan in enumerate(plans):
        for name in sorted(plan.keys() | plans[0].keys()):
            expected, found = (each.get(name, "nothing") for each in (plans[0], plan))
            if expected != found:
                return f"the solvers of rank 0 and {rank} differ in {name}: expected {expected}, got {found}"
    return ""
