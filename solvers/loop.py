"""The training loop: iterations with their tests, displays and snapshots, and requests to stop."""

from __future__ import annotations

import logging
import numbers
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from minicaffe.core.engine import Engine, Step
from minicaffe.core.settings import settings
from minicaffe.errors import SnapshotError, UsageError
from minicaffe.solvers import snapshot
from minicaffe.solvers.curves import Curves
from minicaffe.solvers.nan_search import LossCheck
from minicaffe.solvers.progress import showing
from minicaffe.solvers.ranks import Ranks
from minicaffe.solvers.tests import Tests, log_outputs

if TYPE_CHECKING:
    from minicaffe.core.net import Net

log = logging.getLogger("minicaffe")


class Loop:
    """Mixin of `Solver`: the training loop.  `Solver` provides what is declared here, and calls `_prepare_to_train`."""

    param: Any
    net: Net
    ranks: Ranks
    tests: Tests
    iter: int
    losses: list[float]
    smoothed_loss: float
    observers: list[Any]
    test_all: Callable[[], Any]
    try_snapshot: Callable[[], None]
    restore: Callable[[str], None]

    def _prepare_to_train(self) -> None:
        """Make what belongs to the loop."""
        self.steps: dict[Engine, Step] = {}  #: the Step that runs iterations, one per engine
        self._stopped = self._restored = False
        self._unsaved: dict[str, SnapshotError] = {}  # of what could not be written at the last attempt
        self._loss_check = LossCheck()
        self.curves = Curves()

    def solve(self, resume_file: str | None = None, progress: bool = False) -> None:
        """Train until iteration `max_iter`; then snapshot, display and test if the SolverParameter requests it.

        resume_file: path of a .solverstate or .solverstate.h5 to restore first; None (default) continues from the
            current state.
        progress: whether to show a progress line, in a terminal or a notebook in one place, elsewhere as a line every
            ten seconds (default False).  What is logged is written nowhere, unless `minicaffe.init_log` is called.
        Raises SnapshotError for a wrong `resume_file`, and at the end if the last snapshot could not be written;
        SolverError if no snapshots can be written, and as `step`.
        """
        log.info("Solving %s", self.net.name)
        log.info("Learning Rate Policy: %s", self.param.lr_policy)
        self._unsaved = {}
        if self.param.snapshot_after_train and self.ranks.root:
            snapshot.check_writable(self.param)
        if resume_file:
            log.info("Restoring previous solver status from %s", resume_file)
            self.restore(resume_file)
        with showing(self, progress, self.param.max_iter):
            self._solve()
        self._check_saved()

    def _solve(self) -> None:
        """Train until iteration `max_iter`, with what `solve` does behind the last iteration."""
        self._run(self.param.max_iter - self.iter)
        every = self.param.snapshot
        if self.param.snapshot_after_train and (not every or self.iter % every):
            self.try_snapshot()
        if self._stopped:
            log.info("Optimization stopped early.")
            return
        with self.tests.running():  # the last snapshot contains the states of before these passes
            if self._due(self.param.display):
                self._smooth(self.net.forward_from_to(0, len(self.net.layers) - 1))
                log.info("Iteration %d, loss = %.6g", self.iter, self.smoothed_loss)
            if self._due(self.param.test_interval):
                self._test()
        log.info("Optimization Done.")

    def step(self, iterations: int, progress: bool = False) -> None:
        """Run `iterations` iterations, with their tests, displays and snapshots; stop early if `action` requests it.

        progress: as of `solve`.
        Of several ranks, all must call it; the root's number of iterations counts.
        The average of the losses begins anew, except in the first call after `restore`.  A snapshot that cannot be
        written is logged as a warning, and training goes on.
        Raises SnapshotError at the end if this was so for the last one; SolverError if the loss is nan or infinite and
        `stop_on_nan` is set; UsageError for anything else than a number.
        """
        if not isinstance(iterations, numbers.Real):
            raise UsageError(f"step: expected a number of iterations, got {iterations!r}")
        self._unsaved = {}
        with showing(self, progress, self.iter + iterations):
            self._run(iterations)
        self._check_saved()

    def _run(self, iterations: int) -> None:
        """Run iterations as `step`, which reports a last snapshot that could not be written."""
        last = self.ranks.begin(self, iterations) + self.iter
        if not self._restored:
            self.losses, self.smoothed_loss = [], 0.0
        self._stopped = self._restored = False
        self.tests.before = None
        self._since, self._iter_then = time.perf_counter(), self.iter
        while self.iter < last:
            if self._due(self.param.test_interval) and (self.iter or self.param.test_initialization) and self._test():
                break
            self.net.debug_info = self._due(self.param.display) and self.param.debug_info
            self._iterate()
            if self._carry_out(self.ranks.after_iteration(self), iterated=True):
                break
        else:
            self._stopped = False  # a call of `stop` after the last point where the ranks agree has no effect
        self.net.settle()

    def _test(self) -> bool:
        """Run all tests and carry out what was requested in the meantime; return whether to stop."""
        with self.tests.running():
            self.test_all()
            return self._carry_out(self.ranks.agree(self))

    def _carry_out(self, requests: Collection[str], iterated: bool = False) -> bool:
        """Carry out requests, the same ones at all ranks; return whether to stop.

        iterated: whether an iteration has ended, after which a snapshot may be due.
        """
        if "restored" in requests:
            self.ranks.give_state(self)
        stops = "stop" in requests
        if "snapshot" in requests or iterated and self._due(self.param.snapshot):
            self.try_snapshot()
            stops |= self._carry_out(self.ranks.agree(self))  # the requests of observers of the snapshot
        self._stopped |= stops
        return stops

    def stop(self) -> None:
        """End the running `step` after the current iteration or test; `solve` then writes its last snapshot.

        For observers; it has the effect of "stop" returned by `action`: all ranks stop at the same iteration.
        """
        self._stopped = True

    @property
    def stopped(self) -> bool:
        """Whether the last `step` or `solve` was stopped early."""
        return self._stopped

    def _iterate(self) -> None:
        """Run one iteration: gradients, observers and display, update."""
        step, displays = self.engine_step, self.displays
        loss = step.gradients()
        if loss is not None:
            self._smooth(loss)
        self.notify("on_iteration", loss)
        if displays:
            self._display()
        step.update()

    def run_last_backward(self) -> None:
        """Run the last backward pass of an iteration, which completes the gradients; for a Step."""
        self.ranks.run_backward(self)

    @property
    def engine_step(self) -> Step:
        """The Step that runs iterations on this thread's engine; created on first use."""
        engine = settings.engine
        if engine not in self.steps:
            self.steps[engine] = engine.step(self)
        return self.steps[engine]

    @property
    def iter_size(self) -> int:
        """Number of forward and backward passes per iteration, at least 1."""
        return max(self.param.iter_size, 1)

    @property
    def displays(self) -> bool:
        """Whether the current iteration has a display."""
        return self._due(self.param.display)

    @property
    def needs_loss(self) -> bool:
        """Whether the loss of the current iteration is displayed, by itself or in an average."""
        return self.displays or self.param.average_loss > 1

    @property
    def reads_gradients(self) -> bool:
        """Whether an observer reads the gradients at displays: its attribute `reads_gradients` is true."""
        return any(getattr(observer, "reads_gradients", False) for observer in self.observers)

    def _due(self, every: int) -> bool:
        return bool(every) and self.iter % every == 0

    def _smooth(self, loss: float) -> None:
        """Set `smoothed_loss` to the mean of the last `average_loss` losses, `loss` included."""
        window = max(self.param.average_loss, 1)
        self.losses = [*self.losses[-(window - 1) :], loss] if window > 1 else [loss]
        self.smoothed_loss = sum(self.losses) / len(self.losses)

    def check_loss(self, loss: float) -> None:
        """Report a loss of the current iteration that is nan or infinite; called while its batch is in the net."""
        self._loss_check.see(self, loss)

    def _display(self) -> None:
        now = time.perf_counter()
        lapse = now - self._since
        rate = (self.iter - self._iter_then) / (lapse or 1)
        log.info(
            "Iteration %d (%.6g iter/s, %.6gs/%d iters), loss = %.6g",
            self.iter, rate, lapse, self.param.display, self.smoothed_loss,
        )  # fmt: skip
        self._since, self._iter_then = now, self.iter
        outputs = {name: self.net.blobs[name].read_data().ravel().tolist() for name in self.net.outputs}
        log_outputs("Train", self.net, outputs)
        self.notify("on_display", self.smoothed_loss, outputs)

    def notify(self, what: str, *args: Any) -> None:
        """Call the method `what` of the curves and all observers that have it, with the solver and `args`."""
        for observer in (self.curves, *self.observers):
            method = getattr(observer, what, None)
            if method:
                method(self, *args)

    def goes_on(self) -> None:
        """Let the next `step` continue the average of the losses, which has been restored."""
        self.smoothed_loss = sum(self.losses) / len(self.losses) if self.losses else 0.0
        self._restored, self.tests.before = True, None
        self.curves.go_back(self.iter)

    def _check_saved(self) -> None:
        for error in self._unsaved.values():
            raise error
