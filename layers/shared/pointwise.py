"""The products of `minicaffe.layers.shared.correlation` where the kernel has one place and there is no padding.

The windows are the picture, or some of its places where the stride is above 1, so no rows are made:

    y[n] = w x[n]        dx[n] = w^T dy[n]
"""

from __future__ import annotations

import math

import numpy as np

from minicaffe.layers.shared.correlation import Correlation
from minicaffe.layers.shared.views import at, parts


class PointwiseCorrelation(Correlation):
    """x (N, C, *in), w (O, C / group, 1, ...) and y (N, O, *out); arrays are written in place."""

    def forward(self, x: np.ndarray, w: np.ndarray, y: np.ndarray) -> None:
        """y = w * x."""
        for part in parts(x):
            np.matmul(self._matrix(w), self._samples(self._read(x[part])), out=self._samples(y[part]))

    def data_gradient(self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray) -> None:
        """dx = the gradient with respect to x."""
        matrix = self._matrix(w).swapaxes(1, 2)
        if set(self.window.stride) == {1}:
            np.matmul(matrix, self._samples(dy), out=self._samples(dx))
            return
        dx[...] = 0
        for part in parts(dx):
            inner = self._read(dx[part])
            inner[...] = np.matmul(matrix, self._samples(dy[part])).reshape(inner.shape)

    def _flips(self) -> bool:
        """No: the data gradient needs no columns of dy."""
        return False

    def _read(self, x: np.ndarray) -> np.ndarray:
        """The places of x that windows have: a view."""
        return at(x, ..., *(slice(None, None, stride) for stride in self.window.stride))

    def _matrix(self, w: np.ndarray) -> np.ndarray:
        """w as (group, O / group, C / group)."""
        return w.reshape(self.group, len(w) // self.group, w.shape[1])

    def _samples(self, values: np.ndarray) -> np.ndarray:
        """(N, channels, *places) as (N, group, channels / group, places)."""
        n, channels, *places = values.shape
        return values.reshape(n, self.group, channels // self.group, math.prod(places))
