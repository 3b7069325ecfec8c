"""Random numbers of the counter-based generator Philox 4x64 (Salmon et al., "Parallel random numbers", SC'11).

CUDA kernels with the same key and counter draw the same numbers (cuda/common.cuh).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from minicaffe.saved import whole, words

_MASK = (1 << 64) - 1


class Stream:
    """A sequence of random numbers whose position can be saved and restored.

    seed, number: the two 64-bit words of the Philox key (number: 0 by default).
    rank: added to the seed, so that each process of a training draws other numbers (default 0).
    """

    def __init__(self, seed: int, number: int = 0, rank: int = 0) -> None:
        self._rank = rank
        self._bits = np.random.Philox(key=[(seed + rank) & _MASK, number & _MASK])
        self._generator = np.random.Generator(self._bits)

    def generator(self) -> np.random.Generator:
        """Return a numpy Generator of any distribution; its draws advance the stream."""
        return self._generator

    def uniform_u32(self, n: int) -> np.ndarray:
        """Return (n,) uint32, uniform over all values; each 64-bit word gives its low half first.

        Uses whole Philox blocks of eight values, so that kernels can compute element i independently.
        """
        blocks = self._align(n)
        return self._bits.random_raw(4 * blocks).view(np.uint32)[:n]

    def take_blocks(self, n: int) -> tuple[tuple[int, int], int]:
        """Reserve the blocks of `uniform_u32(n)` for a kernel; return the key and the counter of the first block."""
        blocks = self._align(n)
        state = self._bits.state["state"]
        counter = int(state["counter"][0]) + 1  # numpy's Philox increments the counter before each block
        self._bits.advance(blocks)
        return (int(state["key"][0]), int(state["key"][1])), counter

    def _align(self, n: int) -> int:
        """Discard the rest of a partly used block; return the number of blocks for n 32-bit values."""
        state = self._bits.state
        if state["buffer_pos"] != 4 or state["has_uint32"]:
            state["buffer_pos"], state["has_uint32"] = 4, 0
            self._bits.state = state
        return -(-n // 8)

    @contextlib.contextmanager
    def as_root(self) -> Iterator[None]:
        """Draw the numbers of rank 0 inside the block, for what all ranks must have in common."""
        self._add_to_seed(-self._rank)
        try:
            yield
        finally:
            self._add_to_seed(self._rank)

    def _add_to_seed(self, number: int) -> None:
        """Change the seed; the rest of a partly used block, which was drawn with the old one, is discarded."""
        if number:
            self._align(0)
            state = self._bits.state
            state["state"]["key"][0] = (int(state["state"]["key"][0]) + number) & _MASK
            self._bits.state = state

    def get_state(self) -> dict:
        """Return the position as a dict of ints and lists, which is JSON-serializable."""
        state = self._bits.state
        used_up = state["buffer_pos"] == 4
        return {
            "key": [int(k) for k in state["state"]["key"]],
            "counter": [int(c) for c in state["state"]["counter"]],
            "buffer": [0 if used_up else int(b) for b in state["buffer"]],
            "buffer_pos": int(state["buffer_pos"]),
            "has_uint32": int(state["has_uint32"]),
            "uinteger": int(state["uinteger"]),
        }

    def set_state(self, saved: dict) -> None:
        """Restore a position returned by `get_state`; SnapshotError for anything else.

        numpy does not check the position in the buffer: it would read memory beyond it.
        """
        self._bits.state = {
            "bit_generator": "Philox",
            "state": {
                "key": np.array(words(saved, "key", 2), np.uint64),
                "counter": np.array(words(saved, "counter", 4), np.uint64),
            },
            "buffer": np.array(words(saved, "buffer", 4), np.uint64),
            "buffer_pos": whole(saved, "buffer_pos", 4),
            "has_uint32": whole(saved, "has_uint32", 1),
            "uinteger": whole(saved, "uinteger", (1 << 32) - 1),
        }
