"""The order in which images are read: shuffled in each pass, wide images beside wide ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe import saved
from minicaffe.philox import Stream


class ImageOrder:
    """A position in an endless sequence of passes over images, each in another random order.

    seed: of the random orders.  wide: of each image whether it is at least as wide as it is high; batches of two then
    have two of a kind, except for one in the middle of a pass (ASPECT_GROUPING).  None: all orders are as probable.
    """

    def __init__(self, count: int, seed: int, wide: Sequence[bool] | None = None) -> None:
        self.count, self._wide, self._seed, self._pass, self._index = count, wide, seed, 0, 0
        self._order = self._shuffled()

    def take(self, count: int) -> list[int]:
        """Return the next images, `count` of them; those left at the end of a pass are skipped if they are fewer."""
        if self._index + count > self.count:
            self._pass, self._index = self._pass + 1, 0
            self._order = self._shuffled()
        taken = self._order[self._index : self._index + count]
        self._index += count
        return [int(each) for each in np.resize(taken, count)]  # again, where there are fewer images than that

    def position(self) -> dict:
        """Return the position as a JSON-serializable dict, for `seek`."""
        return {"order_seed": self._seed, "order_pass": self._pass, "order_index": self._index}

    def seek(self, state: dict) -> None:
        """Restore a position; SnapshotError for a value that is missing or out of range."""
        self._seed = saved.whole(state, "order_seed", saved.LARGEST_WORD)
        self._pass, self._index = saved.whole(state, "order_pass"), saved.whole(state, "order_index")
        self._order = self._shuffled()

    def _shuffled(self) -> np.ndarray:
        rng = Stream(self._seed, self._pass).generator()
        if self._wide is None:
            return rng.permutation(self.count)
        wide = np.asarray(self._wide, bool)
        order = np.concatenate([rng.permutation(np.flatnonzero(wide)), rng.permutation(np.flatnonzero(~wide))])
        pairs = order[: self.count // 2 * 2].reshape(-1, 2)
        return np.concatenate([rng.permutation(pairs).reshape(-1), order[len(order) // 2 * 2 :]])
