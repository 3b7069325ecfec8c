"""Adam (Kingma and Ba, ICLR 2015), with the bias corrections applied to the learning rate."""

from __future__ import annotations

import numpy as np

from minicaffe.solvers.registry import register_solver
from minicaffe.solvers.sgd import SGDSolver


@register_solver("Adam")
class AdamSolver(SGDSolver):
    """M <- b1 M + (1 - b1) g;  V <- b2 V + (1 - b2) g^2;  w <- w - rate * c * M / (sqrt(V) + delta).

    g is the regularised gradient, rate the learning rate, b1 `momentum` and b2 `momentum2`.
    c = sqrt(1 - b2^t) / (1 - b1^t) with t = iter + 1, in C's arithmetic: inf for a momentum of 1.
    The history holds the M of all parameters, then the V of all parameters.
    """

    histories = 2

    def update(self, g: np.ndarray, history: list[np.ndarray], rate: float) -> None:
        """Replace `g` by the update, in place; `history` is [M, V]."""
        m, v = history
        b1, b2 = self.param.momentum, self.param.momentum2
        m *= b1
        m += g * (1 - b1)
        v *= b2
        v += np.square(g) * (1 - b2)
        np.multiply(m, rate * self.correction(), out=g)
        g /= np.sqrt(v) + self.param.delta

    def correction(self) -> float:
        """Return the bias correction c of the next update."""
        t = np.float64(self.iter + 1)
        with np.errstate(all="ignore"):
            second, first = (1 - np.power(np.float64(b), t) for b in (self.param.momentum2, self.param.momentum))
            return float(np.sqrt(second) / first)
