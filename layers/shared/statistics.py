"""Layers that keep the mean and the variance of each channel in their blobs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.layers.shared.exchange import Exchange, exchange_of


class KeepsStatistics(Layer):
    """Base of layers that normalise channels, in TEST with the mean and variance that their blobs hold.

    eps: what is added to the variance.  channels: the number C of channels, axis 1 of the bottom.
    exchange: with the other ranks, for the statistics of all batches; None for those of this rank's own.
    """

    eps: float
    channels: int
    exchange: Exchange | None = None

    def join_ranks(self, of_batch: bool) -> None:
        """Set `exchange` as the settings require; called in `setup`.

        of_batch: whether the layer uses the statistics of batches.
        """
        self.exchange = exchange_of(self.phase, of_batch, self.channels, self.dtype)
        self.collective = self.exchange is not None

    def refuse_learning(self, count: int) -> None:
        """Give the first `count` blobs, statistics, lr_mult 0; LayerError if the prototxt gives them another."""
        for i in range(count):
            if len(self.layer_param.param) == i:
                self.layer_param.param.add(lr_mult=0)
            elif self.layer_param.param[i].lr_mult != 0:
                given = self.layer_param.param[i].lr_mult
                raise self.error(f"the statistics are not learned: lr_mult of param {i} must be 0, got {given:g}")

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
