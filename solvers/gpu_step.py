"""A training step on the GPU as one launch: diffs cleared, forward, backward and update, captured once and replayed."""

from __future__ import annotations

import logging
from typing import Any

from minicaffe.layer import Layer

log = logging.getLogger("minicaffe")


class GpuStep:
    """What a solver calls in place of clearing, passing and updating, while nobody looks at what is between.

    The first call runs plainly, the second captures, the others replay (minicaffe.cuda.graph).  When shapes, memory or
    the solver's parameters change, it begins anew.
    """

    def __init__(self, solver: Any) -> None:
        self._solver = solver
        self._captured: Any = None
        self._key: Any = None

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
        key = (update, [blob.signature for blob in self._solver.net.blobs.values()])
        if key != self._key:
            self._begin(update)
        update.set_rate(rate)
        self._captured()
        self._key = (update, [blob.signature for blob in self._solver.net.blobs.values()])

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
