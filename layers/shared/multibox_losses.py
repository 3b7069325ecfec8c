"""MultiBoxLoss on the CPU: its losses and their derivatives."""

from __future__ import annotations

import numpy as np

from minicaffe.layers.shared.elementwise import logistic
from minicaffe.layers.shared.softmax import softmax

_BLOCK = 8192  # rows of scores that are computed at once, so that they stay in the cache
_MOST = -np.log(np.finfo(np.float32).tiny)  # the largest loss of a softmax: the logarithm of no smaller number is taken


def box_losses(d: np.ndarray, smooth: bool) -> np.ndarray:
    """Return the loss of each difference: half its square, or where `smooth` and |d| >= 1, |d| - 0.5."""
    squares = 0.5 * d * d
    return np.where(np.abs(d) < 1, squares, np.abs(d) - 0.5) if smooth else squares


def box_slopes(d: np.ndarray, smooth: bool) -> np.ndarray:
    """Return the derivatives of `box_losses`."""
    return np.clip(d, -1, 1) if smooth else d


def class_losses(scores: np.ndarray, labels: np.ndarray, independent: bool) -> np.ndarray:
    """Return the loss (n,) of each row of scores (n, K) for its label (n,): its cross entropy with the softmax.

    independent: with the K sigmoids in place of the softmax; label -1 then means that no class is true.
    """
    losses = np.empty(len(scores), scores.dtype)
    for start in range(0, len(scores), _BLOCK):
        part = slice(start, start + _BLOCK)
        x, label = scores[part], labels[part]
        own = np.where(label < 0, 0, x[np.arange(len(x)), label])
        if independent:
            losses[part] = _softplus(x).sum(1) - own
        else:
            largest = x.max(1)
            above = np.exp(x - largest[:, None]).sum(1)
            losses[part] = np.minimum(np.log(above) + (largest - own), _MOST)
    return losses


def class_slopes(scores: np.ndarray, labels: np.ndarray, independent: bool) -> np.ndarray:
    """Return the derivatives (n, K) of `class_losses`."""
    if independent:
        slopes = logistic(scores)
    else:
        slopes = np.empty_like(scores)
        softmax(scores[..., None], slopes[..., None])
    rows = np.flatnonzero(labels >= 0)
    slopes[rows, labels[rows]] -= 1
    return slopes


def _softplus(x: np.ndarray) -> np.ndarray:
    """Return log(1 + exp(x))."""
    y = np.exp(-np.abs(x))
    y += 1
    np.log(y, out=y)
    return np.add(y, np.maximum(x, 0), out=y)
