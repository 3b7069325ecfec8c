"""AdaGrad (Duchi, Hazan and Singer, JMLR 2011)."""

from __future__ import annotations

import numpy as np

from minicaffe.solvers.base import register_solver
from minicaffe.solvers.sgd import SGDSolver


@register_solver("AdaGrad")
class AdaGradSolver(SGDSolver):
    """H <- H + g^2;  w <- w - rate * g / (sqrt(H) + delta)."""

    def setup(self) -> None:
        self.refuse_momentum()
        super().setup()

    def update(self, g: np.ndarray, history: list[np.ndarray], rate: float) -> None:
        (h,) = history
        h += np.square(g)
        g *= rate
        g /= np.sqrt(h) + self.param.delta
