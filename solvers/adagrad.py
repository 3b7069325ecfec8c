"""AdaGrad (Duchi, Hazan and Singer, "Adaptive Subgradient Methods", JMLR 12, 2011)."""

from __future__ import annotations

import numpy as np

from minicaffe.solvers.registry import register_solver
from minicaffe.solvers.sgd import SGDSolver


@register_solver("AdaGrad")
class AdaGradSolver(SGDSolver):
    """H <- H + g^2;  w <- w - rate * g / (sqrt(H) + delta).

    g is the regularised gradient and rate the learning rate; the history holds H.
    """

    def setup(self) -> None:
        """Allocate the history; SolverError for a momentum other than 0."""
        self.refuse_momentum()
        super().setup()

    def update(self, g: np.ndarray, history: list[np.ndarray], rate: float) -> None:
        """Replace `g` by the update, in place; `history` is [H]."""
        (h,) = history
        h += np.square(g)
        g *= rate
        g /= np.sqrt(h) + self.param.delta
