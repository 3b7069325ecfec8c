"""The division of k among blocks, for products by tensor cores (``tensor.cuh``)."""

from __future__ import annotations

from typing import NamedTuple

THREADS = 128  # of a block
SPAN = 8  # shares that one block adds
_STAGES = 3
_LEAST_STEPS = 4  # steps of a share


class Tile(NamedTuple):
    """A Shape of the kernels, and how many of its blocks a multiprocessor holds."""

    rows: int
    columns: int
    resident: int

    @property
    def shared(self) -> int:
        """Bytes of shared memory: STAGES of 128 bytes of k."""
        return _STAGES * (self.rows + self.columns) * 128

    @property
    def partial(self) -> int:
        """Bytes of the sums of a block."""
        return self.rows * self.columns * 4


def choose(tiles: int, steps: int, room: int) -> int:
    """The number of shares with the least time, for `tiles` tiles of `steps` steps and `room` blocks at the same time.

    Time is counted in steps of a block. A block needs some steps to begin and to end, and to add shares.
    """
    most = max(1, min(steps // _LEAST_STEPS, 4 * room // tiles, SPAN * SPAN))

    def time(shares: int) -> float:
        added = 0 if shares == 1 else 2 + min(shares, SPAN) + (shares // SPAN if shares > SPAN else 0)
        return -(-tiles * shares // room) * (-(-steps // shares) + 4 + added)

    return min(range(1, most + 1), key=time)
