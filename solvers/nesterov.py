"""Nesterov's accelerated gradient (Nesterov, 1983), in the form of Sutskever et al. (ICML 2013)."""

from __future__ import annotations

import numpy as np

from minicaffe.solvers.registry import register_solver
from minicaffe.solvers.sgd import SGDSolver


@register_solver("Nesterov")
class NesterovSolver(SGDSolver):
    """V' = momentum * V + rate * g;  w <- w - ((1 + momentum) * V' - momentum * V);  V <- V'.

    g is the regularised gradient and rate the learning rate; the history holds V.
    """

    def update(self, g: np.ndarray, history: list[np.ndarray], rate: float) -> None:
        """Replace `g` by the update, in place; `history` is [V]."""
        (v,) = history
        momentum = self.param.momentum
        g *= rate
        old = v * momentum
        np.add(old, g, out=v)
        np.multiply(v, 1 + momentum, out=g)
        g -= old
