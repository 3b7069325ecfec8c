"""Stochastic gradient descent with momentum; base class of the other update rules."""

from __future__ import annotations

import logging

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.errors import SolverError
from minicaffe.solvers.base import Solver
from minicaffe.solvers.lr_policy import learning_rate
from minicaffe.solvers.registry import register_solver

log = logging.getLogger("minicaffe")

#: number of elements of a parameter that are updated at a time: 256 KB of float32
_PART = 1 << 16


@register_solver("SGD")
class SGDSolver(Solver):
    """V <- momentum * V + rate * g;  w <- w - V.

    g is the gradient, clipped to `clip_gradients`, divided by iter_size and regularised with `weight_decay`; rate is
    the learning rate times the parameter's lr_mult.  With `larc`, of SGD only, it is, by larc_policy,

        scale   learning rate * own                own = larc_eta (1 - momentum) |w| / |g|, before the regularisation
        clip    min(learning rate, own)

    of each parameter; own is 1 where a norm is 0, and lr_mult where that is 0 (You et al. 2017; NVIDIA's Caffe).
    A subclass defines `histories` and `update`.
    """

    histories = 1  #: number of history blobs per parameter

    def setup(self) -> None:
        """Allocate the history, filled with zeros; SolverError for an unknown regularization_type or larc_policy."""
        if self.param.regularization_type not in ("L1", "L2"):
            raise SolverError(f'unknown regularization_type "{self.param.regularization_type}": known are L1, L2')
        if self.param.larc and (self.type != "SGD" or self.param.larc_policy not in ("scale", "clip")):
            raise SolverError(
                f"larc needs a solver of type SGD and the larc_policy scale or clip, got {self.type} and "
                f'"{self.param.larc_policy}"'
            )
        params = self.net.learnable_params
        #: blobs shaped like the parameters: the first of each parameter, then, if histories is 2, the second of each
        self.history = [Blob(p.shape, p.dtype) for _ in range(self.histories) for p in params]

    def apply_update(self) -> None:
        """Update the parameters from their diffs, on the engine in use, and increment `iter`."""
        rate = self.take_rate()
        self.log_rate(rate)
        self.engine_step.apply(rate)
        self.iter += 1

    def update_parameters(self, rate: float) -> None:
        """Update the parameters from their diffs, at the learning rate `rate`, on the host."""
        with np.errstate(all="ignore"):  # weights that diverge become inf or nan, as in C
            self.clip()
            for i in range(len(self.net.learnable_params)):
                self._update_param(i, rate)

    def take_rate(self) -> float:
        """Return the learning rate of the next update, and set `current_step` to its step."""
        rate, step = learning_rate(self.param, self.iter, self.current_step)
        if self.param.lr_policy == "multistep" and step != self.current_step:
            log.info("MultiStep Status: Iteration %d, step = %d", self.iter, step)
        self.current_step = step
        return rate

    def clip(self) -> None:
        """Scale all diffs by one factor so that their joint L2 norm is at most `clip_gradients`; negative: no limit."""
        limit = self.param.clip_gradients
        if limit < 0:
            return
        diffs = [blob.diff.ravel() for blob in self.net.learnable_params]
        norm = float(np.sqrt(sum(float(np.dot(d, d)) for d in diffs)))
        if norm > limit:
            log.info(
                "Gradient clipping: scaling down gradients (L2 norm %.6g > %.6g) by scale factor %.6g",
                norm, limit, limit / norm,
            )  # fmt: skip
            for diff in diffs:
                diff *= limit / norm

    def _update_param(self, i: int, rate: float) -> None:
        """Update parameter i in parts that fit into the cache, so that each element is loaded from memory once."""
        net, count = self.net, len(self.net.learnable_params)
        blob, history = net.learnable_params[i], self.history[i::count]
        arrays = [array.reshape(-1) for array in (blob.data, blob.diff, *(h.data for h in history))]
        decay = self.param.weight_decay * net.decay_mults[i]
        rate = self._larc_rate(i, rate, arrays[0], arrays[1]) if self.param.larc else rate * net.lr_mults[i]
        for start in range(0, blob.count, _PART):
            data, diff, *past = (array[start : start + _PART] for array in arrays)
            self._update_part(data, diff, past, rate, decay)

    def _larc_rate(self, i: int, rate: float, data: np.ndarray, diff: np.ndarray) -> float:
        """Return the learning rate of parameter i by LARC."""
        own, param = float(self.net.lr_mults[i]), self.param
        if own > 0:
            of_data, of_diff = (float(np.sqrt(np.dot(values, values))) for values in (data, diff))
            of_diff /= max(param.iter_size, 1)
            own = (1 - param.momentum) * param.larc_eta * of_data / of_diff if of_data > 0 and of_diff > 0 else 1.0
        return min(rate, own) if param.larc_policy == "clip" else rate * own

    def _update_part(
        self, data: np.ndarray, diff: np.ndarray, history: list[np.ndarray], rate: float, decay: float
    ) -> None:
        """Divide the diff by iter_size, add the weight decay, apply the rule; the diff holds the update afterwards."""
        if self.param.iter_size > 1:
            diff *= 1 / self.param.iter_size
        if decay:
            diff += data * decay if self.param.regularization_type == "L2" else np.sign(data) * decay
        self.update(diff, history, rate)
        data -= diff

    def update(self, g: np.ndarray, history: list[np.ndarray], rate: float) -> None:
        """Replace the gradient `g` by the update to subtract, in place, and update the history.

        g: flat array, a part of a parameter's diff.  history: the matching parts of its history blobs; here [V].
        rate: learning rate, times the parameter's lr_mult.
        """
        (v,) = history
        v *= self.param.momentum
        g *= rate
        v += g
        g[...] = v

    def log_rate(self, rate: float) -> None:
        """Log the learning rate, if this iteration has a display."""
        if self.displays:
            log.info("Iteration %d, lr = %.6g", self.iter, rate)

    def correction(self) -> float:
        """Return the factor on the learning rate of the next update; 1, except for Adam."""
        return 1.0

    def corrected(self, rate: float) -> float:
        """Return rate * correction, rounded to the dtype of the parameters; inf if it overflows that type."""
        dtype: np.dtype = self.history[0].dtype if self.history else np.dtype(np.float32)
        with np.errstate(all="ignore"):
            return float(dtype.type(rate * self.correction()))

    def refuse_momentum(self) -> None:
        """Raise SolverError unless `momentum` is 0."""
        if self.param.momentum != 0:
            raise SolverError(f"momentum cannot be used with {self.type}: expected 0, got {self.param.momentum:g}")
