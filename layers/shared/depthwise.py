"""The products of `minicaffe.layers.shared.correlation` where each channel has a kernel of its own (group = C = O).

A matrix product would have one row; whole arrays are multiplied and added instead, once for each kernel element.
"""

from __future__ import annotations

import numpy as np

from minicaffe.layers.shared.correlation import Correlation
from minicaffe.layers.shared.views import at, by_channel
from minicaffe.layers.shared.window import all_overlaps


class DepthwiseCorrelation(Correlation):
    """x (N, C, *in), w (C, 1, *kernel) and y (N, C, *out); arrays are written in place."""

    def forward(self, x: np.ndarray, w: np.ndarray, y: np.ndarray) -> None:
        """y = w * x."""
        for part in self._parts(x, y):
            total = self._buffer("y", y[part].shape)
            total[...] = 0
            for offset, inside, source in all_overlaps(x.shape[2:], y.shape[2:], self.window):
                inner = at(total, ..., *inside)
                inner += self._times(at(x[part], ..., *source), self._element(w, offset))
            y[part] = total

    def data_gradient(self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray) -> None:
        """dx = the gradient with respect to x."""
        for part in self._parts(dx, dy):
            total = self._buffer("x", dx[part].shape)
            total[...] = 0
            for offset, inside, source in all_overlaps(dx.shape[2:], dy.shape[2:], self.window):
                inner = at(total, ..., *source)
                inner += self._times(at(dy[part], ..., *inside), self._element(w, offset))
            dx[part] = total

    def weight_gradient(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> None:
        """dw += the gradient with respect to w."""
        for part in self._parts(x, dy):
            for offset, inside, source in all_overlaps(x.shape[2:], dy.shape[2:], self.window):
                terms = self._times(at(x[part], ..., *source), at(dy[part], ..., *inside))
                sums = by_channel(terms).sum(2).sum(0)
                self._element(dw, offset)[...] += sums.reshape(self._element(dw, offset).shape)

    def _flips(self) -> bool:
        """No: the data gradient needs no columns of dy."""
        return False

    def _times(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.multiply(a, b, out=self._buffer("term", a.shape))

    @staticmethod
    def _element(w: np.ndarray, offset: tuple[int, ...]) -> np.ndarray:
        """One element of each channel's kernel, (C, 1, ...): a view."""
        return at(w, slice(None), 0, *offset).reshape(-1, *[1] * len(offset))
