"""Mean and covariance of many vectors, in one pass over blocks of them, in float64."""

from __future__ import annotations

import math

import numpy as np


class Moments:
    """Accumulator of the mean and the covariance of vectors; its memory does not depend on their number.

    Each block is centred by its own mean, and the sums of squares of two sets, of n and m vectors whose means differ by
    d, are merged by adding d d^T n m / (n + m) (Chan, Golub, LeVeque 1979), so that no large numbers cancel.

    groups, length: each item is `groups` vectors of `length` values; the covariance is that within each group.
    diagonal: accumulate the variances only, not the covariances.
    `count`: number of items so far.  `mean`: (groups, length).
    """

    def __init__(self, groups: int, length: int, diagonal: bool = False) -> None:
        self.count = 0
        self.mean = np.zeros((groups, length))
        self._diagonal = diagonal
        self._squares = np.zeros((groups, length) if diagonal else (groups, length, length))

    def add(self, block: np.ndarray) -> None:
        """Add items (N, groups, length) in any type."""
        added, total = len(block), self.count + len(block)
        if not added:
            return
        mean = block.mean(0, dtype=np.float64)
        rows = np.empty((added + 1, *mean.shape))  # the last one is the term of the merge
        np.subtract(block, mean, out=rows[:-1])
        rows[-1] = (mean - self.mean) * math.sqrt(self.count * added / total)
        if self._diagonal:
            self._squares += np.einsum("ngi,ngi->gi", rows, rows)
        else:
            self._squares += np.matmul(rows.transpose(1, 2, 0), rows.transpose(1, 0, 2))
        self.mean += (mean - self.mean) * (added / total)
        self.count = total

    def covariance(self) -> np.ndarray:
        """Return the unbiased covariance, (groups, length, length), or the variances (groups, length).

        It is nan for fewer than two items.
        """
        return self._squares / (self.count - 1) if self.count > 1 else np.full_like(self._squares, np.nan)
