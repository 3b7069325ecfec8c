"""Mean and variance of each channel: layers that keep them in their blobs, and their computation in parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.layers.shared.views import by_channel, parts


class KeepsStatistics(Layer):
    """Base of layers that normalise channels, in TEST with the mean and variance that their blobs hold.

    eps: what is added to the variance.  channels: the number C of channels, axis 1 of the bottom.
    """

    eps: float
    channels: int

    @property
    def updates_statistics(self) -> bool:
        """Whether forward passes normalise with the batch's statistics and update the stored ones."""
        raise NotImplementedError

    @property
    def statistics_blobs(self) -> Sequence[Blob]:
        """The blobs that hold the statistics; none for a layer that keeps none."""
        raise NotImplementedError

    def stored_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the stored mean and variance, each (C,); zeros before any training."""
        raise NotImplementedError

    def store_statistics(self, mean: np.ndarray, variance: np.ndarray) -> None:
        """Store a mean and a variance, each (C,), in place of the present ones."""
        raise NotImplementedError

    @staticmethod
    def freeze(layer_param) -> None:
        """Change a LayerParameter so that the layer normalises with the stored statistics in each phase."""
        raise NotImplementedError


class Moments:
    """The mean of each channel and its sum of squared deviations, of values that come in parts (Chan et al., 1983).

    count: the number of values so far.  mean, squares: (C,) float64.
    """

    def __init__(self, channels: int) -> None:
        self.count, self.mean, self.squares = 0, np.zeros(channels), np.zeros(channels)

    def add(self, values: np.ndarray) -> None:
        """Add values (N, C, ...)."""
        values = by_channel(values)
        for part in parts(values):
            self._add(values[part].astype(np.float64))

    def _add(self, values: np.ndarray) -> None:
        count = values.shape[0] * values.shape[2]
        if count:
            mean = values.mean((0, 2))
            difference, total = mean - self.mean, self.count + count
            self.squares += ((values - mean[:, None]) ** 2).sum((0, 2)) + difference**2 * (self.count * count / total)
            self.mean += difference * (count / total)
            self.count = total

    @property
    def variance(self) -> np.ndarray:
        """The unbiased variance of each channel, (C,); 0 for a single value."""
        return self.squares / max(1, self.count - 1)
