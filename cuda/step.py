"""Training iteration as one CUDA graph: clearing of diffs, forward and backward passes, gradient hooks and update."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from minicaffe.core.blob import Blob
from minicaffe.core.engine import Step
from minicaffe.core.layer import Layer
from minicaffe.cuda import accord, averaging, context
from minicaffe.cuda.averaging import Averaging
from minicaffe.cuda.graph import CapturedStep
from minicaffe.cuda.solver import FusedUpdate

log = logging.getLogger("minicaffe")

_SCRIPT = "it calls functions of a script"
_DISPLAY = "its display reads every layer, the gradients, or the mean of several losses"
_ON_HOST = "it averages gradients through the host"


class Attributes:
    """A record of the attributes of some objects, to detect changes.

    Lists and dicts are compared by their contents, blobs by shape and memory, other values with ==.
    """

    def __init__(self, owners: Iterable[Any]) -> None:
        self._containers: list[tuple[Any, Any]] = []  # (list or dict, copy of it)
        self._blobs: list[Blob] = []
        for owner in owners:
            self._note(vars(owner))
        self._signatures = [blob.signature for blob in self._blobs]

    def _note(self, value: Any) -> None:
        if isinstance(value, Blob):
            self._blobs.append(value)
        elif isinstance(value, dict):
            self._containers.append((value, dict(value)))
            for item in value.values():
                self._note(item)
        elif isinstance(value, list):
            self._containers.append((value, list(value)))
            for item in value:
                self._note(item)

    def unchanged(self) -> bool:
        """Whether all attributes have the values recorded."""
        try:
            same = all([now == then for now, then in self._containers])  # a list is faster here than a generator
        except ValueError:  # an array was replaced: == has no single truth value
            return False
        return same and [blob.signature for blob in self._blobs] == self._signatures


def obstacle(net: Any) -> str:
    """Return a sentence that names the first layer without GPU code or capture; '' if there is none."""
    for layer in net.layers:
        if not layer.capturable or type(layer).forward_gpu is Layer.forward_gpu:
            return f"{layer.type} layer '{layer.name}' works on the host"
    return ""


class CudaStep(Step):
    """Runs an iteration as the replay of a CUDA graph, or without one if Python code needs intermediate results.

    The first iteration runs directly, the second is captured, later ones are replays (minicaffe.cuda.graph).  A graph
    depends on shapes, memory of blobs, the solver's parameters, the attributes of the net and its layers, the hooks,
    and the precision of products (`set_math`).  If any of them has changed since the last iteration, the graph is
    discarded and captured again.

    Several ranks average their gradients with NCCL in the middle of the iteration.  As NCCL requires, they agree before
    each iteration: if one of them cannot run it as a graph, none does, and if one captures anew, all do.
    """

    reads_loss = False

    def __init__(self, solver: Any) -> None:
        super().__init__(solver)
        self._rate: float | None = None  # learning rate of an update already made by `gradients`
        self._reported = False  # whether the reason for not using a graph has been logged
        self._captured: CapturedStep | None = None
        self._last_parts: tuple = ()  # `_parts` after the last step
        self._attributes = Attributes([])
        self._fused: FusedUpdate | None = None
        self._fused_key: tuple = ()
        self._joined = False  # whether the ranks have connected their GPUs, or found that they cannot
        self._averaging: Averaging | None = None  # None: one rank, or the gradients are averaged through the host

    def gradients(self) -> float | None:
        solver = self.solver
        with self._together():
            if not self._runs_as_graph():
                return super().gradients()
            self._rate = solver.take_rate()
            self._run(solver.corrected(self._rate))
            return self.read_loss() if solver.needs_loss else None

    @property
    def has_updated(self) -> bool:
        return self._rate is not None

    def update(self) -> None:
        with self._together():
            if self._rate is None:
                super().update()
            else:
                self.solver.log_rate(self._rate)
                self.solver.iter += 1
                self._rate = None
            if self.averages:
                self.solver.ranks.agree_after_iteration(self.solver)

    def apply(self, rate: float) -> None:
        fused = self.fused_update()
        fused.set_rate(self.solver.corrected(rate))
        fused.apply()

    def fused_update(self) -> FusedUpdate:
        """Return the FusedUpdate of the solver's rule; a new one if the solver's parameters have changed."""
        solver, net, p = self.solver, self.solver.net, self.solver.param
        rule = p.momentum, p.momentum2, p.rms_decay, p.delta, p.weight_decay, p.regularization_type
        key = (*rule, p.larc, p.larc_eta, p.larc_policy, p.clip_gradients, p.iter_size, *net.lr_mults, *net.decay_mults)
        if self._fused is None or self._fused_key != key:
            mults = net.lr_mults, net.decay_mults
            self._fused = FusedUpdate(solver.type, net.learnable_params, solver.history, *mults, p)
            self._fused_key = key
        return self._fused

    @property
    def captured(self) -> bool:
        """Whether the iteration has been captured, so that further ones are replays."""
        return self._captured is not None and self._captured.captured

    # -- iterations as one graph -----------------------------------------------------------------------------------

    def _runs_as_graph(self) -> bool:
        """Whether the next iteration runs as one graph: a new one if it has changed, at this rank or another."""
        fused, reason = self.fused_update(), self._hindrance()
        anew = self._captured is None or not self._unchanged(fused)
        if self._averaging is not None:
            reason, anew = self._agreed(self._averaging, reason, anew)
        if reason:
            if _SCRIPT in reason and not self._reported:
                log.info("The step runs without a CUDA graph: %s", reason)
                self._reported = True
            return False
        if anew:
            self._begin(fused)
        return True

    def _hindrance(self) -> str:
        """Return why the next iteration cannot run as one graph: a callback, what a display reads; '' if it can."""
        solver, net = self.solver, self.solver.net
        if net.callbacks.any or solver.start_hooks or not all(hook.capturable for hook in solver.gradient_hooks):
            return _SCRIPT
        if solver.ranks.several and self._averaging is None:
            return _ON_HOST
        reads = solver.param.debug_info or solver.iter_size > 1 or solver.reads_gradients
        return _DISPLAY if solver.displays and reads else ""

    def _run(self, rate: float) -> None:
        """Run one iteration, including the update, at the learning rate `rate`."""
        fused, captured = self.fused_update(), self._captured
        assert captured is not None
        fused.set_rate(rate)
        captured()
        if not self._unchanged(fused):  # the first run allocates buffers; a data layer changes its attributes
            self._remember(fused, captured)

    def _unchanged(self, fused: FusedUpdate) -> bool:
        """Whether nothing that a graph depends on has changed since the last step."""
        return self._last_parts == self._parts(fused) and self._attributes.unchanged()

    def _parts(self, fused: FusedUpdate) -> tuple:
        return fused, context.math(), self.solver.iter_size, *self.solver.gradient_hooks

    def _remember(self, fused: FusedUpdate, captured: CapturedStep) -> None:
        net, self._last_parts = self.solver.net, self._parts(fused)
        layers = () if captured.plain else net.layers  # without a graph their attributes are read each time
        self._attributes = Attributes([net, fused, *layers])

    def _begin(self, fused: FusedUpdate) -> None:
        if self._captured is not None:
            self._captured.invalidate()
        agree = str if self._averaging is None else self._averaging.accord.finish
        self._captured = CapturedStep(lambda: self._work(fused), obstacle(self.solver.net), log.info, agree)
        if self._averaging is not None:
            self._averaging.communicator.uses(self._captured)

    def _work(self, fused: FusedUpdate) -> None:
        solver = self.solver
        fused.clear()
        for _ in range(solver.iter_size):
            solver.net.run_forward()
            solver.net.run_backward()
        for hook in solver.gradient_hooks:
            hook(solver)
        fused.apply()

    # -- several ranks ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """Connect the ranks before the block, once; end their connection if it raises, so that no rank waits."""
        if not self.solver.ranks.several:
            yield
            return
        if not self._joined:
            self._averaging, self._joined = averaging.join(self.solver.ranks.group), True
        try:
            yield
        except BaseException:
            if self._averaging is not None:
                self._averaging.communicator.close()
            self._averaging, self._joined = None, False
            raise

    def _agreed(self, own: Averaging, reason: str, anew: bool) -> tuple[str, bool]:
        """Return the first rank's reason against a graph, and whether a rank captures anew; place diffs that moved."""
        own.communicator.check()
        params = self.solver.net.learnable_params
        votes = self.solver.ranks.group.exchange([reason, anew, own.placed(params)])
        reasons, changes, places = zip(*votes)
        if not all(places):
            own.place(params)
        return accord.first(reasons), any(changes) or not all(places)

    @property
    def averages(self) -> bool:
        return self._averaging is not None

    def average(self) -> None:
        assert self._averaging is not None
        self._averaging.average(self.solver.net.learnable_params)
