"""Solver: the training loop.  An iteration clears the diffs, runs forward and backward, and updates the parameters.

The update rules of SGD, Adam and the others are in sgd.py and the modules beside it, snapshots in snapshot.py,
learning rates in lr_policy.py.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from minicaffe.core import random, weights
from minicaffe.core.engine import Engine, Step
from minicaffe.core.net import Net
from minicaffe.core.settings import settings
from minicaffe.errors import SnapshotError, UsageError
from minicaffe.parallel.group import ALONE
from minicaffe.solvers import nets, snapshot, snapshot_files
from minicaffe.solvers.checks import check_numbers
from minicaffe.solvers.lr_policy import check_policy, learning_rate
from minicaffe.solvers.nan_search import LossCheck
from minicaffe.solvers.ranks import Ranks
from minicaffe.solvers.tests import Scores, Tests, log_outputs

log = logging.getLogger("minicaffe")


class Hook(NamedTuple):
    """A callback of the training loop; see `Solver.add_gradient_hook`."""

    function: Callable[[Any], Any]
    capturable: bool = False

    def __call__(self, solver: Any) -> None:
        self.function(solver)


class Solver:
    """Base class of solvers: trains the net of a SolverParameter.

    param: path of a solver prototxt, or a SolverParameter (or a `nets.Source` of either).

    net: the train `Net`.  test_nets: list of the test nets, which share the parameters of `net`.
    iter: number of updates made so far.  param: the SolverParameter.  lr: learning rate of the next update.
    losses: the last `average_loss` losses.  smoothed_loss: their mean.
    last_state: path of the solver state that was written or restored last; None if none was.
    ranks: the solver's `Ranks`: the other processes that train with it, if `minicaffe.parallel.start` has been called.
    stop_on_nan: whether a loss that is nan or infinite raises SolverError before the update (default: False, the first
        one is logged as a warning).  Either names the layer where it began.  On a GPU only losses that are read are
        checked, see `observers`.
    action: callback without arguments, called once per iteration and before each test batch; it returns None,
        "snapshot" or "stop" (default: always None).
    observers: list of objects with any of the methods `on_iteration(solver, loss)`,
        `on_display(solver, loss, outputs)`, `on_test_batch(solver, net_id, i)`, `on_test(solver, net_id, scores)`,
        `on_snapshot(solver, path)`.  On a GPU the loss is read back only in iterations with a display (unless
        `average_loss` > 1); in the others `on_iteration` gets None.  An observer with `run_state()`, which returns
        what JSON can hold, and `load_run_state(state)` is part of snapshots, under the name of its class.

    Raises SolverError for wrong fields of the SolverParameter, PrototxtError, NetError or LayerError for a wrong net,
    SnapshotError for wrong files of `weights`.
    """

    type = ""  #: name of the solver in prototxts, such as "SGD"; set by `register_solver`

    def __init__(self, param: str | os.PathLike | Any) -> None:
        source = nets.load(param)
        self.param = param = source.param
        self.iter = 0
        self.current_step = 0
        self.action: Callable[[], str | None] = lambda: None
        self.observers: list[Any] = []
        self.smoothed_loss = 0.0
        self.stop_on_nan = False
        self.ranks = Ranks(settings.group or ALONE)
        self.start_hooks: list[Hook] = []
        self.gradient_hooks = [Hook(self.ranks.average, capturable=True)] if self.ranks.several else []
        self.losses: list[float] = []
        self.last_state: str | None = None
        self.tests = Tests(self)
        self.steps: dict[Engine, Step] = {}  #: the Step that runs iterations, one per engine
        self._stopped = self._restored = False
        self._unsaved: dict[str, SnapshotError] = {}  # of what could not be written at the last attempt
        self._loss_check = LossCheck()
        log.info("Initializing solver from parameters:\n%s", param)
        check_numbers(param)
        check_policy(param)
        if param.snapshot:
            snapshot.check_writable(param)
        if param.HasField("snapshot_prefix"):
            snapshot_files.remove_temporaries(param.snapshot_prefix)
        if param.random_seed >= 0:
            random.set_random_seed(param.random_seed, settings.solver_rank)
        net_params = nets.SolverNets(source)
        self.net = Net.of_upgraded(net_params.train)
        snapshot.check_format(self)
        self.test_nets = [Net.of_upgraded(net) for net in net_params.tests if settings.solver_rank == 0]
        for net in self.test_nets:
            net.debug_info = param.debug_info
            net.share_with(self.net)
        files = nets.initial_weights(param)
        for path in files:
            log.info("Finetuning from %s", path)
        if files:
            weights.load([self.net, *self.test_nets], files)
        self.setup()
        log.info("Solver scaffolding done.")

    def __reduce__(self):
        raise UsageError("a solver cannot be pickled or copied: build it where it is used, and restore a snapshot")

    # -- methods of an update rule ---------------------------------------------------------------------------------

    def setup(self) -> None:
        """Check the parameters of the rule and allocate its history."""

    def apply_update(self) -> None:
        """Update the parameters from their diffs, on the engine in use, and increment `iter`."""
        raise NotImplementedError

    def update_parameters(self, rate: float) -> None:
        """Update the parameters from their diffs, at the learning rate `rate`, on the host."""
        raise NotImplementedError

    # -- the loop --------------------------------------------------------------------------------------------------

    def solve(self, resume_file: str | None = None) -> None:
        """Train until iteration `max_iter`; then snapshot, display and test if the SolverParameter requests it.

        resume_file: path of a .solverstate or .solverstate.h5 to restore first; None (default) continues from the
            current state.
        Raises SnapshotError for a wrong `resume_file`, and at the end if the last snapshot could not be written;
        SolverError if no snapshots can be written, and as `step`.
        """
        log.info("Solving %s", self.net.name)
        log.info("Learning Rate Policy: %s", self.param.lr_policy)
        self._unsaved = {}
        if self.param.snapshot_after_train:
            snapshot.check_writable(self.param)
        if resume_file:
            log.info("Restoring previous solver status from %s", resume_file)
            self.restore(resume_file)
        self.ranks.begin(self)
        self._run(self.param.max_iter - self.iter)
        every = self.param.snapshot
        if self.param.snapshot_after_train and (not every or self.iter % every):
            self.try_snapshot()
        if self._stopped:
            log.info("Optimization stopped early.")
            self._check_saved()
            return
        with self.tests.running():  # the last snapshot contains the states of before these passes
            if self._due(self.param.display):
                self._smooth(self.net.forward_from_to(0, len(self.net.layers) - 1))
                log.info("Iteration %d, loss = %.6g", self.iter, self.smoothed_loss)
            if self._due(self.param.test_interval):
                self.test_all()
        log.info("Optimization Done.")
        self._check_saved()

    def step(self, iterations: int) -> None:
        """Run `iterations` iterations, with their tests, displays and snapshots; stop early if `action` requests it.

        The average of the losses begins anew, except in the first call after `restore`.  A snapshot that cannot be
        written is logged as a warning, and training goes on.
        Raises SnapshotError at the end if this was so for the last one; SolverError if the loss is nan or infinite and
        `stop_on_nan` is set.
        """
        self._unsaved = {}
        self.ranks.begin(self)
        self._run(iterations)
        self._check_saved()

    def _run(self, iterations: int) -> None:
        """Run iterations as `step`, which reports a last snapshot that could not be written."""
        last = self.iter + iterations
        if not self._restored:
            self.losses, self.smoothed_loss = [], 0.0
        self._stopped = self._restored = False
        self.tests.before = None
        self._since, self._iter_then = time.perf_counter(), self.iter
        while self.iter < last:
            if self._due(self.param.test_interval) and (self.iter or self.param.test_initialization):
                self.test_all()
                if self._carry_out(self.ranks.after_test(self)):
                    break
            self.net.debug_info = self._due(self.param.display) and self.param.debug_info
            self._iterate()
            if self._carry_out(self.ranks.after_iteration(self), snapshot=self._due(self.param.snapshot)):
                break
        self._stopped = self.ranks.stops(self)
        self.net.settle()

    def _carry_out(self, requests: Sequence[str], snapshot: bool = False) -> bool:
        """Write a snapshot, if requested or due; return whether to stop."""
        if snapshot or "snapshot" in requests:
            self.try_snapshot()
        if "stop" in requests:
            self.stop()
        return self.ranks.stops(self)

    def stop(self) -> None:
        """End the running `step` after the current iteration or test; `solve` then writes its last snapshot.

        For observers; it has the effect of "stop" returned by `action`.
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
        """Call the method `what` of all observers that have it, with the solver and `args`."""
        for observer in self.observers:
            method = getattr(observer, what, None)
            if method:
                method(self, *args)

    # -- testing ---------------------------------------------------------------------------------------------------

    def test_all(self) -> list[Scores]:
        """Run every test net; return the result of `test` for each, fewer if `action` requests to stop."""
        return self.tests.run_all()

    def test(self, net_id: int = 0) -> Scores:
        """Run test net `net_id` for its `test_iter` batches with the parameters of the train net.

        Returns {output blob name: list of the means of its values over the batches}; {} if interrupted.
        """
        return self.tests.run(net_id)

    # -- snapshots and scripts -------------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """Learning rate of the next update."""
        return learning_rate(self.param, self.iter, self.current_step)[0]

    def snapshot(self) -> str:
        """Write run state, weights and solver state in `snapshot_format`; return the path of the weights.

        Raises SnapshotError if a file cannot be written.
        """
        path = snapshot.save(self)
        self.notify("on_snapshot", path)
        return path

    def try_snapshot(self) -> None:
        """Write a snapshot; a failure is reported as by `try_to_write`."""
        self.try_to_write("snapshot", self.snapshot)

    def try_to_write(self, what: str, write: Callable[[], Any]) -> bool:
        """Call `write`; if it raises SnapshotError, log that training goes on without `what`, and return False.

        At the end of `step` or `solve` the error is raised, unless a later attempt to write `what` succeeds.
        """
        self._unsaved.pop(what, None)
        try:
            write()
        except SnapshotError as error:
            log.warning("%s; training goes on without this %s", error, what)
            self._unsaved[what] = error
        return what not in self._unsaved

    def _check_saved(self) -> None:
        for error in self._unsaved.values():
            raise error

    def restore(self, path: str | os.PathLike) -> None:
        """Restore the state in a .solverstate or .solverstate.h5, with the weights and the run state that belong to it.

        Raises SnapshotError for a file that cannot be read or does not fit the net and the solver type, and for weights
        or a run state that were not written with the solver state.
        """
        snapshot.restore(self, os.fspath(path))
        self.smoothed_loss = sum(self.losses) / len(self.losses) if self.losses else 0.0
        self._restored, self.tests.before = True, None
        self.ranks.begin_again()

    def restore_newest(self) -> str | None:
        """Restore the newest whole snapshot of `snapshot_prefix`; return the path of its solver state.

        Returns None if there is none.  Snapshots that are not whole are passed over, with one log line for each.
        Raises SnapshotError if the snapshot does not fit the net and the solver type.
        """
        path = snapshot_files.newest(self.param.snapshot_prefix)
        if path:
            self.restore(path)
        return path

    def add_callback(self, on_start: Callable[[], Any], on_gradients_ready: Callable[[], Any]) -> None:
        """Register callbacks: `on_start()` before the passes of each iteration, `on_gradients_ready()` after them."""
        self.start_hooks.append(Hook(lambda solver: on_start()))
        self.gradient_hooks.append(Hook(lambda solver: on_gradients_ready()))

    def add_gradient_hook(self, hook: Callable[[Solver], Any], capturable: bool = False) -> None:
        """Register `hook(solver)`, called in each iteration between the gradients and the update.

        At that point the diffs of `solver.net.learnable_params` hold the sums over `iter_size` passes, not yet scaled,
        clipped or regularised.
        capturable: True if the hook only queues work on the engine's stream, always the same work on the same memory;
            an engine may then record that work and replay it without calling the hook again (default: False).
        """
        self.gradient_hooks.append(Hook(hook, capturable))

    def share_weights(self, net: Net) -> None:
        """Share the parameters that this solver trains with another net; NetError if their shapes differ."""
        net.share_with(self.net)
