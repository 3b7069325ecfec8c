"""The elementwise part of one step of an LSTM, for LSTMUnit and LSTM."""

from __future__ import annotations

import numpy as np

from minicaffe.layers.shared.elementwise import logistic


def lstm_step(z: np.ndarray, cont: np.ndarray, c_prev: np.ndarray, c: np.ndarray, h: np.ndarray) -> None:
    """Compute c and h (..., D) from z (..., 4 D), cont (..., 1) and c_prev; overwrite z with the gates i, f, o, g."""
    size = c.shape[-1]
    logistic(z[..., : 3 * size], out=z[..., : 3 * size])
    np.tanh(z[..., 3 * size :], out=z[..., 3 * size :])
    i, f, o, g = np.split(z, 4, axis=-1)
    c[...] = cont * f * c_prev + i * g
    h[...] = o * np.tanh(c)


def lstm_step_gradient(gates, cont, c_prev, c, dc, dh) -> tuple[np.ndarray, np.ndarray]:
    """Return the diffs of z and c_prev, from those of c and h."""
    i, f, o, g = np.split(gates, 4, axis=-1)
    tanh_c = np.tanh(c)
    dc = dc + dh * o * (1 - tanh_c**2)
    dz = [dc * g * i * (1 - i), dc * cont * c_prev * f * (1 - f), dh * tanh_c * o * (1 - o), dc * i * (1 - g**2)]
    return np.concatenate(dz, axis=-1), dc * cont * f
