"""A training step on the GPU as one launch: diffs cleared, forward, backward and update, captured once and replayed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.cuda import context

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


class GpuStep:
    """What a solver calls in place of clearing, passing and updating, while nobody looks at what is between.

    The first call runs plainly, the second captures, the others replay (minicaffe.cuda.graph).  A graph goes on with
    what was there when it was captured: shapes, the memory of blobs, the solver's parameters, the attributes of the net
    and of its layers, the arithmetic of products.  Where one of them is not as the last step left it, it begins anew.
    """

    def __init__(self, solver: Any) -> None:
        self._solver = solver
        self._captured: Any = None
        self._update: Any = None
        self._math = ""
        self._attributes = Attributes([])

    def usable(self) -> bool:
        """Whether no callback, debug_info or sum of losses wants to see the parts of the coming step."""
        solver, net = self._solver, self._solver.net
        callbacks = (net._before_forward, net._after_forward, net._before_backward, net._after_backward)
        display = bool(solver.param.display) and solver.iter % solver.param.display == 0
        looks = solver.param.debug_info or solver.param.iter_size > 1
        return not (solver.callbacks or any(callbacks) or (display and looks))

    @property
    def captured(self) -> bool:
        """Whether steps are replays by now."""
        return self._captured is not None and self._captured.captured

    def __call__(self, rate: float) -> None:
        """One step, the update included, at a learning rate."""
        update = self._solver.fused_update()
        if not self._fits(update):
            self._begin(update)
        update.set_rate(rate)
        self._captured()
        if not self._fits(update):  # layers have sized their buffers, or a reader has moved on
            self._remember(update)

    def _fits(self, update: Any) -> bool:
        """Whether all is as it was after the last step."""
        same = update is self._update and self._math == context.math()
        return same and self._attributes.unchanged()

    def _remember(self, update: Any) -> None:
        net, self._update, self._math = self._solver.net, update, context.math()
        layers = () if self._captured.plain else net.layers  # which a plain step asks anew each time
        self._attributes = Attributes([net, update, *layers])

    def _begin(self, update: Any) -> None:
        from minicaffe.cuda.graph import CapturedStep

        if self._captured is not None:
            self._captured.invalidate()
        self._captured = CapturedStep(lambda: self._work(update), self._obstacle(), log.info)

    def _work(self, update: Any) -> None:
        net = self._solver.net
        update.clear()
        for _ in range(max(self._solver.param.iter_size, 1)):
            net.run_forward()
            net.run_backward()
        update.apply()

    def _obstacle(self) -> str:
        """The first layer that works on the host, if there is one."""
        for layer in self._solver.net.layers:
            if not layer.capturable or type(layer).forward_gpu is Layer.forward_gpu:
                return f"{layer.type} layer '{layer.name}' works on the host"
        return ""
