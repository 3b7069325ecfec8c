"""RMSProp (Tieleman and Hinton, lecture 6.5 of "Neural Networks for Machine Learning", 2012)."""

from __future__ import annotations

import numpy as np

from minicaffe.errors import SolverError
from minicaffe.solvers.registry import register_solver
from minicaffe.solvers.sgd import SGDSolver


@register_solver("RMSProp")
class RMSPropSolver(SGDSolver):
    """H <- rms_decay * H + (1 - rms_decay) * g^2;  w <- w - rate * g / (sqrt(H) + delta).

    g is the regularised gradient and rate the learning rate; the history holds H.
    """

    def setup(self) -> None:
        """Allocate the history; SolverError for a momentum other than 0 or an rms_decay outside [0, 1)."""
        self.refuse_momentum()
        if not 0 <= self.param.rms_decay < 1:
            raise SolverError(f"rms_decay must lie in [0, 1), got {self.param.rms_decay:g}")
        super().setup()

    def update(self, g: np.ndarray, history: list[np.ndarray], rate: float) -> None:
        """Replace `g` by the update, in place; `history` is [H]."""
        (h,) = history
        decay = self.param.rms_decay
        h *= decay
        h += np.square(g) * (1 - decay)
        g *= rate
        g /= np.sqrt(h) + self.param.delta
