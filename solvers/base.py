"""Solver: the training loop.  An iteration clears the diffs, runs forward and backward, and updates the parameters.

The update rules of SGD, Adam and the others are in sgd.py and the modules beside it, snapshots in snapshot.py,
learning rates in lr_policy.py.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from minicaffe.core import random, weights
from minicaffe.core.engine import Engine, Step
from minicaffe.core.net import Net
from minicaffe.core.settings import settings
from minicaffe.errors import SnapshotError, UsageError
from minicaffe.solvers import nets, snapshot
from minicaffe.solvers.checks import check_numbers
from minicaffe.solvers.lr_policy import check_policy, learning_rate
from minicaffe.solvers.nan_search import LossCheck

log = logging.getLogger("minicaffe")

Scores = dict[str, list[float]]


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
    smoothed_loss: mean of the last `average_loss` losses.
    stop_on_nan: whether a loss that is nan or infinite raises SolverError before the update (default: False, the first
        one is logged as a warning).  Either names the layer where it began.  On a GPU only losses that are read are
        checked, see `observers`.
    action: callback without arguments, called once per iteration and before each test batch; it returns None,
        "snapshot" or "stop" (default: always None).
    observers: list of objects with any of the methods `on_iteration(solver, loss)`,
        `on_display(solver, loss, outputs)`, `on_test_batch(solver, net_id, i)`, `on_test(solver, net_id, scores)`,
        `on_snapshot(solver, path)`.  On a GPU the loss is read back only in iterations with a display (unless
        `average_loss` > 1); in the others `on_iteration` gets None.

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
        self.start_hooks: list[Hook] = []
        self.gradient_hooks: list[Hook] = []
        self._losses: list[float] = []
        self.steps: dict[Engine, Step] = {}  #: the Step that runs iterations, one per engine
        self._stopped = False
        self._unsaved: SnapshotError | None = None  # of the last attempt to write a snapshot in the loop
        self._loss_check = LossCheck()
        log.info("Initializing solver from parameters:\n%s", param)
        check_numbers(param)
        check_policy(param)
        if param.snapshot:
            snapshot.check_writable(param)
        if param.random_seed >= 0:
            random.set_random_seed(param.random_seed)
        net_params = nets.SolverNets(source)
        self.net = Net.of_upgraded(net_params.train)
        snapshot.check_format(self)
        self.test_nets = [Net.of_upgraded(net) for net in net_params.tests]
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
        self._stopped, self._unsaved = False, None
        if self.param.snapshot_after_train:
            snapshot.check_writable(self.param)
        if resume_file:
            log.info("Restoring previous solver status from %s", resume_file)
            self.restore(resume_file)
        self._run(self.param.max_iter - self.iter)
        every = self.param.snapshot
        if self.param.snapshot_after_train and (not every or self.iter % every):
            self._try_snapshot()
        if self._stopped:
            log.info("Optimization stopped early.")
            self._check_saved()
            return
        if self._due(self.param.display):
            self._smooth(self.net.forward_from_to(0, len(self.net.layers) - 1))
            log.info("Iteration %d, loss = %.6g", self.iter, self.smoothed_loss)
        if self._due(self.param.test_interval):
            self.test_all()
        log.info("Optimization Done.")
        self._check_saved()

    def step(self, iterations: int) -> None:
        """Run `iterations` iterations, with their tests, displays and snapshots; stop early if `action` requests it.

        A snapshot that cannot be written is logged as a warning, and training goes on.
        Raises SnapshotError at the end if this was so for the last one; SolverError if the loss is nan or infinite and
        `stop_on_nan` is set.
        """
        self._unsaved = None
        self._run(iterations)
        self._check_saved()

    def _run(self, iterations: int) -> None:
        """Run iterations as `step`, which reports a last snapshot that could not be written."""
        last = self.iter + iterations
        self._losses, self.smoothed_loss = [], 0.0
        self._since, self._iter_then = time.perf_counter(), self.iter
        while self.iter < last:
            if self._due(self.param.test_interval) and (self.iter or self.param.test_initialization):
                self.test_all()
                if self._stopped:
                    break
            self.net.debug_info = self._due(self.param.display) and self.param.debug_info
            self._iterate()
            request = self.action()
            if self._due(self.param.snapshot) or request == "snapshot":
                self._try_snapshot()
            if request == "stop":
                self._stopped = True
                break
        self.net.settle()

    def _iterate(self) -> None:
        """Run one iteration: gradients, observers and display, update."""
        step, displays = self.engine_step, self.displays
        loss = step.gradients()
        if loss is not None:
            self._smooth(loss)
        self._notify("on_iteration", loss)
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
        self._losses = [*self._losses[-(window - 1) :], loss] if window > 1 else [loss]
        self.smoothed_loss = sum(self._losses) / len(self._losses)

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
        self._notify("on_display", self.smoothed_loss, outputs)

    def _notify(self, what: str, *args: Any) -> None:
        for observer in self.observers:
            method = getattr(observer, what, None)
            if method:
                method(self, *args)

    # -- testing ---------------------------------------------------------------------------------------------------

    def test_all(self) -> list[Scores]:
        """Run every test net; return the result of `test` for each, fewer if `action` requests to stop."""
        scores = []
        for i in range(len(self.test_nets)):
            if not self._stopped:
                scores.append(self.test(i))
        return scores

    def test(self, net_id: int = 0) -> Scores:
        """Run test net `net_id` for its `test_iter` batches with the parameters of the train net.

        Returns {output blob name: list of the means of its values over the batches}; {} if interrupted.
        """
        net, batches = self.test_nets[net_id], self.param.test_iter[net_id]
        log.info("Iteration %d, Testing net (#%d)", self.iter, net_id)
        net.share_with(self.net)
        sums: dict[str, Any] = {}
        loss = 0.0
        for i in range(batches):
            if self._interrupted():
                log.info("Test interrupted.")
                return {}
            net.run_forward()
            loss += net.loss() if self.param.test_compute_loss else 0.0
            for name in net.outputs:
                values = net.blobs[name].read_data().ravel().astype("f8")
                sums[name] = sums[name] + values if name in sums else values
            self._notify("on_test_batch", net_id, i)
        if self.param.test_compute_loss:
            log.info("Test loss: %.6g", loss / batches)
        scores = {name: (total / batches).tolist() for name, total in sums.items()}
        log_outputs("Test", net, scores)
        self._notify("on_test", net_id, scores)
        return scores

    def _interrupted(self) -> bool:
        """Carry out the requests of `action` during a test; return whether to stop."""
        while (request := self.action()) is not None:
            if request == "snapshot":
                self._try_snapshot()
            elif request == "stop":
                self._stopped = True
                break
        return self._stopped

    # -- snapshots and scripts -------------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """Learning rate of the next update."""
        return learning_rate(self.param, self.iter, self.current_step)[0]

    def snapshot(self) -> str:
        """Write weights and solver state in `snapshot_format`; return the path of the weights.

        Raises SnapshotError if a file cannot be written.
        """
        path = snapshot.save(self)
        self._notify("on_snapshot", path)
        return path

    def _try_snapshot(self) -> None:
        """Write a snapshot; if that fails, log it and keep the error until the next attempt."""
        self._unsaved = None
        try:
            self.snapshot()
        except SnapshotError as error:
            log.warning("%s; training goes on without this snapshot", error)
            self._unsaved = error

    def _check_saved(self) -> None:
        """Raise the error of the last snapshot of the loop, if it could not be written."""
        if self._unsaved is not None:
            raise self._unsaved

    def restore(self, path: str | os.PathLike) -> None:
        """Restore the state in a .solverstate or .solverstate.h5, and the weights that belong to it.

        Raises SnapshotError for a file that cannot be read or does not fit the net and the solver type.
        """
        snapshot.restore(self, os.fspath(path))

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


def log_outputs(which: str, net: Net, outputs: Scores) -> None:
    """Log a line such as `Train net output #0: loss = 0.26 (* 1 = 0.26 loss)` for each output value.

    which: "Train" or "Test".  outputs: {blob name: values}.
    """
    index = 0
    for name, values in outputs.items():
        weight = net.blob_loss_weights.get(name, 0.0)
        for value in values:
            note = f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else ""
            log.info("    %s net output #%d: %s = %.6g%s", which, index, name, value, note)
            index += 1
