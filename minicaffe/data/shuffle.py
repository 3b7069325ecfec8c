"""Reproducible shuffles: the n-th order of a data set is a function of a seed and n only."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from minicaffe import saved
from minicaffe.errors import DataError
from minicaffe.philox import Stream

log = logging.getLogger("minicaffe.data")

Arrange = Callable[[np.random.Generator], np.ndarray]  #: returns the order of all entries


def shuffled(seed: int, number: int, count: int) -> np.ndarray:
    """Return the indices 0 .. count - 1 in the order of shuffle `number` (0, 1, ...) of this seed."""
    return Stream(seed, number).generator().permutation(count)


def draw_seed(stream: Stream) -> int:
    """Draw a seed from a layer's stream."""
    return int(stream.uniform_u32(1)[0])


def draw_order(stream: Stream) -> int:
    """Draw a seed for `shuffled` from a layer's stream: the same one at all ranks, which share one order."""
    with stream.as_root():
        return draw_seed(stream)


class Rounds:
    """A position in an endless sequence of rounds (epochs) over `count` entries.

    seed: determines a random order for each round; None (default): 0 .. count - 1 in each round.
    skip: number of entries of the first round to skip (default 0).
    arrange: draws the order of a round (default: any order).
    """

    def __init__(self, count: int, seed: int | None = None, skip: int = 0, arrange: Arrange | None = None) -> None:
        self.count, self._seed, self._epoch, self._index, self._arrange = count, seed, 0, skip, arrange
        if seed is not None:
            log.info("Shuffling data")
        self._set_order()

    @property
    def entry(self) -> int:
        """The current entry, 0 .. count - 1."""
        return int(self._order[self._index])

    def advance(self, count: int = 1) -> None:
        """Go on by `count` entries; after the last one of a round, log a line and start the next round."""
        self._index += count
        while self._index >= self.count:
            log.info("Restarting data prefetching from start.")
            self._epoch, self._index = self._epoch + 1, self._index - self.count
            self._set_order()

    def position(self) -> dict:
        """Return the position as JSON-serializable dict, for `seek`."""
        return {"seed": self._seed, "epoch": self._epoch, "index": self._index}

    def seek(self, position: dict) -> None:
        """Restore a position returned by `position`, with its seed; whether entries are shuffled does not change.

        DataError when there are too few entries, SnapshotError for a value that is missing or out of range.
        """
        seed, epoch, index = saved.seed(position), saved.whole(position, "epoch"), saved.whole(position, "index")
        if index >= self.count:
            raise DataError(f"cannot go on from entry {index}: there are only {self.count} entries")
        if self._seed is not None and seed is not None:
            self._seed = seed
        self._epoch, self._index = epoch, index
        self._set_order()

    def _set_order(self) -> None:
        if self._seed is None:
            self._order = np.arange(self.count)
        elif self._arrange is None:
            self._order = shuffled(self._seed, self._epoch, self.count)
        else:
            self._order = self._arrange(Stream(self._seed, self._epoch).generator())
