"""Orders that need no memory: the n-th shuffle of a data set follows from a seed and n alone."""

from __future__ import annotations

import logging

import numpy as np

from minicaffe.errors import DataError
from minicaffe.philox import Stream

log = logging.getLogger("minicaffe.data")


def shuffled(seed: int, number: int, count: int) -> np.ndarray:
    """The indices 0 .. count - 1 in the order of shuffle `number` (0, 1, ...) of this seed."""
    return Stream(seed, number).generator().permutation(count)


def draw_seed(stream: Stream) -> int:
    """A seed for `shuffled` from a layer's own stream."""
    return int(stream.uniform_u32(1)[0])


class Rounds:
    """A place among `count` entries that are read round and round.

    seed: every round (epoch) has an order of its own, a permutation of the entries; None: their own order, always.
    skip: how many entries of the first round are left out.
    """

    def __init__(self, count: int, seed: int | None = None, skip: int = 0) -> None:
        self.count, self._seed, self._epoch, self._index = count, seed, 0, skip
        if seed is not None:
            log.info("Shuffling data")
        self._set_order()

    @property
    def entry(self) -> int:
        """The entry to read now, 0 .. count - 1."""
        return int(self._order[self._index])

    def advance(self) -> None:
        """Go to the next entry; after the last of a round the next round begins, with a line in the log."""
        self._index += 1
        if self._index == self.count:
            log.info("Restarting data prefetching from start.")
            self._epoch, self._index = self._epoch + 1, 0
            self._set_order()

    def position(self) -> dict:
        """What `seek` takes; fit for JSON."""
        return {"seed": self._seed, "epoch": self._epoch, "index": self._index}

    def seek(self, position: dict) -> None:
        """Go to a position, with the orders of its seed; whether there is a shuffle remains as it is.

        Raises `DataError` when there are fewer entries than that.
        """
        if position["index"] >= self.count:
            raise DataError(f"cannot go on from entry {position['index']}: there are only {self.count} entries")
        if self._seed is not None and position["seed"] is not None:
            self._seed = position["seed"]
        self._epoch, self._index = position["epoch"], position["index"]
        self._set_order()

    def _set_order(self) -> None:
        order = np.arange(self.count) if self._seed is None else shuffled(self._seed, self._epoch, self.count)
        self._order = order
