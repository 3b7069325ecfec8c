"""A training step as one launch: diffs cleared, forward and backward passes, update; captured once and replayed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from minicaffe.core.blob import Blob
from minicaffe.core.engine import Step
from minicaffe.core.layer import Layer
from minicaffe.cuda import context
from minicaffe.cuda.graph import CapturedStep
from minicaffe.cuda.solver import FusedUpdate

log = logging.getLogger("minicaffe")


class Attributes:
    """The attributes of some objects at one moment.

    Lists and dicts among them are compared by what they hold, blobs by shape and memory, all else with ==.
    """

    def __init__(self, owners: Iterable[Any]) -> None:
        self._containers: list[tuple[Any, Any]] = []  # lists and dicts, and copies of them as they are now
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
        """Whether they still are what they were."""
        try:
            same = all([now == then for now, then in self._containers])  # a list is faster here than a generator
        except ValueError:  # an array in the place of another
            return False
        return same and [blob.signature for blob in self._blobs] == self._signatures


class CudaStep(Step):
    """Runs an iteration as the replay of a graph, or plainly where Python code has to see what lies in between.

    The first call runs plainly, the second captures, the others replay (minicaffe.cuda.graph).  A graph repeats what
    there was when it was captured: shapes, the memory of blobs, the solver's parameters, the attributes of the net and
    of its layers, the hooks, the arithmetic of products.  Where one of them is not as the last step left it, it is
    captured anew.
    """

    reads_loss = False

    def __init__(self, solver: Any) -> None:
        super().__init__(solver)
        self._rate: float | None = None  # of an update that `gradients` has made
        self._reported = False  # whether the log says why steps are not whole
        self._captured: CapturedStep | None = None
        self._known: tuple = ()  # what was captured, beside attributes
        self._attributes = Attributes([])
        self._fused: FusedUpdate | None = None
        self._fused_key: tuple = ()

    def gradients(self) -> float | None:
        if not self._whole():
            return super().gradients()
        solver = self.solver
        self._rate = solver.take_rate()
        self._run(solver.corrected(self._rate))
        return solver.net.loss() if solver.needs_loss else None

    def update(self) -> None:
        if self._rate is None:
            super().update()
            return
        self.solver.log_rate(self._rate)
        self.solver.iter += 1
        self._rate = None

    def apply(self, rate: float) -> None:
        fused = self.fused_update()
        fused.set_rate(self.solver.corrected(rate))
        fused.apply()

    def fused_update(self) -> FusedUpdate:
        """The kernels of the solver's rule; made anew when the solver's parameters have changed."""
        solver, net, p = self.solver, self.solver.net, self.solver.param
        rule = p.momentum, p.momentum2, p.rms_decay, p.delta, p.weight_decay, p.regularization_type
        key = (*rule, p.clip_gradients, p.iter_size, *net.lr_mults, *net.decay_mults)
        if self._fused is None or self._fused_key != key:
            mults = net.lr_mults, net.decay_mults
            self._fused = FusedUpdate(solver.type, net.learnable_params, solver.history, *mults, p)
            self._fused_key = key
        return self._fused

    @property
    def captured(self) -> bool:
        """Whether steps are replays by now."""
        return self._captured is not None and self._captured.captured

    # -- one launch ------------------------------------------------------------------------------------------------

    def _whole(self) -> bool:
        """Whether no callback, debug_info or sum of losses has to see the parts of the coming step."""
        solver, net = self.solver, self.solver.net
        callbacks = (net._before_forward, net._after_forward, net._before_backward, net._after_backward)
        if any(callbacks) or solver.start_hooks or not all(hook.capturable for hook in solver.gradient_hooks):
            if not self._reported:
                log.info("The step runs without a CUDA graph: it calls functions of a script")
            self._reported = True
            return False
        return not (solver.displays and (solver.param.debug_info or solver.iter_size > 1))

    def _run(self, rate: float) -> None:
        """One step, the update included, at a learning rate."""
        fused = self.fused_update()
        if not self._fits(fused):
            self._begin(fused)
        fused.set_rate(rate)
        self._captured()
        if not self._fits(fused):  # layers have sized their buffers, or a reader has moved on
            self._remember(fused)

    def _fits(self, fused: FusedUpdate) -> bool:
        """Whether all is as it was after the last step."""
        return self._known == self._parts(fused) and self._attributes.unchanged()

    def _parts(self, fused: FusedUpdate) -> tuple:
        return fused, context.math(), self.solver.iter_size, *self.solver.gradient_hooks

    def _remember(self, fused: FusedUpdate) -> None:
        net, self._known = self.solver.net, self._parts(fused)
        layers = () if self._captured.plain else net.layers  # which a plain step reads anew each time
        self._attributes = Attributes([net, fused, *layers])

    def _begin(self, fused: FusedUpdate) -> None:
        if self._captured is not None:
            self._captured.invalidate()
        self._captured = CapturedStep(lambda: self._work(fused), self._obstacle(), log.info)

    def _work(self, fused: FusedUpdate) -> None:
        solver = self.solver
        fused.clear()
        for _ in range(solver.iter_size):
            solver.net.run_forward()
            solver.net.run_backward()
        for hook in solver.gradient_hooks:
            hook(solver)
        fused.apply()

    def _obstacle(self) -> str:
        """The first layer that works on the host, if there is one."""
        for layer in self.solver.net.layers:
            if not layer.capturable or type(layer).forward_gpu is Layer.forward_gpu:
                return f"{layer.type} layer '{layer.name}' works on the host"
        return ""
