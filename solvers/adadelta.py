"""AdaDelta (Zeiler, "ADADELTA: an adaptive learning rate method", 2012)."""

from __future__ import annotations

import numpy as np

from minicaffe.solvers.base import register_solver
from minicaffe.solvers.sgd import SGDSolver


@register_solver("AdaDelta")
class AdaDeltaSolver(SGDSolver):
    """G <- m G + (1 - m) g^2;  u = g sqrt((U + delta) / (G + delta));  U <- m U + (1 - m) u^2;  w <- w - rate * u.

    m is `momentum`; the history holds all G, then all U.
    """

    histories = 2

    def update(self, g: np.ndarray, history: list[np.ndarray], rate: float) -> None:
        gradients, updates = history
        momentum, delta = self.param.momentum, self.param.delta
        gradients *= momentum
        gradients += np.square(g) * (1 - momentum)
        g *= np.sqrt((updates + delta) / (gradients + delta))
        updates *= momentum
        updates += np.square(g) * (1 - momentum)
        g *= rate
