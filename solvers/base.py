"""Solver: the nets of a SolverParameter, and how they are trained.

The training loop is in loop.py. An iteration clears the diffs, runs forward and backward, and updates the parameters.
The update rules of SGD, Adam and the others are in sgd.py and the modules beside it, snapshots in snapshot.py,
learning rates in lr_policy.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from minicaffe.core import random, weights
from minicaffe.core.net import Net
from minicaffe.core.notebook import Shown
from minicaffe.core.settings import settings
from minicaffe.errors import SnapshotError, UsageError, printable_line
from minicaffe.parallel.group import ALONE
from minicaffe.solvers import nets, outputs, snapshot, snapshot_files
from minicaffe.solvers.checks import check_numbers
from minicaffe.solvers.loop import Loop
from minicaffe.solvers.lr_policy import check_policy, learning_rate
from minicaffe.solvers.ranks import Ranks
from minicaffe.solvers.tests import Scores, Tests

log = logging.getLogger("minicaffe")


class Hook(NamedTuple):
    """A callback of the training loop; see `Solver.add_gradient_hook`."""

    function: Callable[[Any], Any]
    capturable: bool = False

    def __call__(self, solver: Any) -> None:
        self.function(solver)


class Solver(Loop, Shown):
    """Base class of solvers: trains the net of a SolverParameter.

    param: path of a solver prototxt, or a SolverParameter (or a `nets.Source` of either).

    net: the train `Net`.  test_nets: list of the test nets, which share the parameters of `net`.
    iter: number of updates made so far.  param: the SolverParameter.  lr: learning rate of the next update.
    losses: the last `average_loss` losses.  smoothed_loss: their mean.
    curves: the `Curves` so far: losses, rates and scores of the tests.
    last_state: path of the solver state that was written or restored last; None if none was.
    ranks: the solver's `Ranks`: the other processes that train with it, if `minicaffe.parallel.start` has been called.
        Ranks other than the root have no test nets, and get its parameters at the beginning of `step` and `solve`;
        observers see the losses of their own rank.
    stop_on_nan: whether a loss that is nan or infinite raises SolverError before the update (default: False, the first
        one is logged as a warning).  Either names the layer where it began.  On a GPU only losses that are read are
        checked, see `observers`.
    action: callback without arguments, called once per iteration and before each test batch; it returns None,
        "snapshot" or "stop" (default: always None).
    observers: list of objects with any of the methods `on_iteration(solver, loss)`,
        `on_display(solver, loss, outputs)`, `on_test_batch(solver, net_id, i)`, `on_test(solver, net_id, scores)`,
        `on_snapshot(solver, path)`.  On a GPU the loss is read back only in iterations with a display (unless
        `average_loss` > 1); in the others `on_iteration` gets None.  An observer with `run_state()`, which returns
        what JSON can hold, and `load_run_state(state)` is part of snapshots, under the name of its class.  At a display
        the diffs of parameters are their gradients; on a GPU this needs an attribute `reads_gradients = True` of an
        observer, otherwise they may be the updates already.

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
        self.ranks = Ranks(settings.group or ALONE)
        if self.ranks.several:
            self.average_gradients()
        self.losses: list[float] = []
        self.last_state: str | None = None
        self.tests = Tests(self)
        self._prepare_to_train()
        log.info("Initializing solver from parameters:\n%s", param)
        check_numbers(param)
        check_policy(param)
        if param.snapshot and self.ranks.root:
            snapshot.check_writable(param)
        if param.HasField("snapshot_prefix") and self.ranks.root:
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
            outputs.of_solver(param, net)  # an error now, not at the first test
        files = nets.initial_weights(param) if self.ranks.root else []  # the others get the root's weights
        for path in files:
            log.info("Finetuning from %s", path)
        if files:
            weights.load([self.net, *self.test_nets], files)
        self.setup()
        log.info("Solver scaffolding done.")

    def __reduce__(self):
        raise UsageError("a solver cannot be pickled or copied: build it where it is used, and restore a snapshot")

    def __repr__(self) -> str:
        return f"<{printable_line(self.title)}: iteration {self.iter} of {self.param.max_iter}>"

    @property
    def title(self) -> str:
        """The type and the net, in words: "Adam solver of LeNet", or "Adam solver" if the net has no name."""
        name = self.net.name if hasattr(self, "net") else ""  # there is none while it is built
        return f"{self.type or type(self).__name__} solver{f' of {name}' if name else ''}"

    # -- methods of an update rule ---------------------------------------------------------------------------------

    def setup(self) -> None:
        """Check the parameters of the rule and allocate its history."""

    def apply_update(self) -> None:
        """Update the parameters from their diffs, on the engine in use, and increment `iter`."""
        raise NotImplementedError

    def update_parameters(self, rate: float) -> None:
        """Update the parameters from their diffs, at the learning rate `rate`, on the host."""
        raise NotImplementedError

    # -- testing ---------------------------------------------------------------------------------------------------

    def test_all(self) -> list[Scores]:
        """Run every test net; return the result of `test` for each, fewer if `action` requests to stop."""
        return self.tests.run_all()

    def test(self, net_id: int = 0) -> Scores:
        """Run test net `net_id` for its `test_iter` batches with the parameters of the train net.

        Returns {output blob name: list of the means of its values over the batches}; {} if interrupted.  With
        eval_type "detection" the value of an output of DetectionEvaluate is its mAP.
        """
        return self.tests.run(net_id)

    # -- snapshots and scripts -------------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """Learning rate of the next update."""
        return learning_rate(self.param, self.iter, self.current_step)[0]

    def snapshot(self) -> str:
        """Write run state, weights and solver state in `snapshot_format`; return the path of the weights.

        Of several ranks, all must call it: the root writes the files, which contain the run state of all.
        Raises SnapshotError, at all ranks, if a file cannot be written.
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

    def restore(self, path: str | os.PathLike) -> None:
        """Restore the state in a .solverstate or .solverstate.h5, with the weights and the run state that belong to it.

        Of several ranks, only the root needs to call it, and reads the files; the others get its state at the beginning
        of the next `step` or `solve`, or, when it is called by an observer, after the current iteration or test.
        Raises SnapshotError for a file that cannot be read or does not fit the net and the solver type, and for weights
        or a run state that were not written with the solver state.
        """
        if self.ranks.root:
            self.ranks.restored(snapshot.restore(self, os.fspath(path)))
            self.goes_on()

    def restore_newest(self) -> str | None:
        """Restore the newest whole snapshot of `snapshot_prefix`; return the path of its solver state.

        Returns None if there is none, and at ranks other than the root, as `restore`.  Snapshots that are not whole are
        passed over, with one log line for each.
        Raises SnapshotError if the snapshot does not fit the net and the solver type.
        """
        path = snapshot_files.newest(self.param.snapshot_prefix) if self.ranks.root else None
        if path:
            self.restore(path)
        return path

    def join(self, ranks: Ranks) -> None:
        """Train with others from now on, and let all continue from the state that has been restored; see `NCCL`.

        `average_gradients` has to be called, too.
        """
        ranks.continue_from(self.ranks)
        self.ranks = ranks

    def average_gradients(self) -> None:
        """Average the gradients over the ranks from now on, after the gradient hooks that there are already."""
        self.gradient_hooks.append(Hook(self.ranks.average, capturable=True))

    def add_callback(self, on_start: Any, on_gradients_ready: Callable[[], Any] | None = None) -> None:
        """Register callbacks: `on_start()` before the passes of each iteration, `on_gradients_ready()` after them.

        on_start: a function, or, without `on_gradients_ready`, an object whose method `add_to_solver(solver)` is called
            now: pycaffe's `NCCL`.
        Raises UsageError for one argument that is not such an object.
        """
        if on_gradients_ready is not None:
            self.start_hooks.append(Hook(lambda solver: on_start()))
            self.gradient_hooks.append(Hook(lambda solver: on_gradients_ready()))
        elif hasattr(on_start, "add_to_solver"):
            on_start.add_to_solver(self)
        else:
            raise UsageError(f"add_callback expects two functions, or an NCCL, got {type(on_start).__name__}")

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
