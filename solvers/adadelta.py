"""AdaDelta (Zeiler, "ADADELTA: an adaptive learning rate method", arXiv:1212.5701, 2012)."""

from __future__ import annotations

import numpy as np

from minicaffe.solvers.registry import register_solver
from minicaffe.solvers.sgd import SGDSolver


@register_solver("AdaDelta")
class AdaDeltaSolver(SGDSolver):
    """G <- m G + (1 - m) g^2;  u = g sqrt((U + delta) / (G + delta));  U <- m U + (1 - m) u^2;  w <- w - rate * u.

    g is the regularised gradient, m `momentum`, delta `delta`, and rate the learning rate.
    The history holds the G of all parameters, then the U of all parameters.
    """

    histories = 2

    def update(self, g: np.ndarray, history: list[np.ndarray], rate: float) -> None:
        """Replace `g` by the update, in place; `history` is [G, U]."""
        gradients, updates = history
        momentum, delta = self.param.momentum, self.param.delta
        gradients *= momentum
        gradients += np.square(g) * (1 - momentum)
        g *= np.sqrt((updates + delta) / (gradients + delta))
        updates *= momentum
        updates += np.square(g) * (1 - momentum)
        g *= rate
