"""Random numbers from one counter-based generator, Philox 4x64 (Salmon et al., SC'11).

A CUDA kernel that is given the same key and counter draws the same numbers (cuda/common.cuh).
"""

from __future__ import annotations

import numpy as np

_MASK = (1 << 64) - 1


class Stream:
    """A sequence of random numbers with a position that can be read and set.

    seed, number: the two words of the Philox key.
    """

    def __init__(self, seed: int, number: int = 0) -> None:
        self._bits = np.random.Philox(key=[seed & _MASK, number & _MASK])
        self._generator = np.random.Generator(self._bits)

    def generator(self) -> np.random.Generator:
        """numpy's generator over this stream, for any distribution; drawing from it moves the stream."""
        return self._generator

    def uniform_u32(self, n: int) -> np.ndarray:
        """(n,) uint32, uniform over all 32-bit values: the low half of each 64-bit word first.

        Always takes whole Philox blocks of eight, so that kernels can draw the same numbers element by element.
        """
        blocks = self._align(n)
        return self._bits.random_raw(4 * blocks).view(np.uint32)[:n]

    def take_blocks(self, n: int) -> tuple[tuple[int, int], int]:
        """Reserve the blocks of `uniform_u32(n)` for a kernel: the key and the counter of the first block."""
        blocks = self._align(n)
        state = self._bits.state["state"]
        counter = int(state["counter"][0]) + 1  # Philox counts before it draws
        self._bits.advance(blocks)
        return (int(state["key"][0]), int(state["key"][1])), counter

    def _align(self, n: int) -> int:
        """Drop what is left of a partly used block; return how many blocks hold n 32-bit values."""
        state = self._bits.state
        if state["buffer_pos"] != 4 or state["has_uint32"]:
            state["buffer_pos"], state["has_uint32"] = 4, 0
            self._bits.state = state
        return -(-n // 8)

    def get_state(self) -> dict:
        """The position as plain integers and lists, fit for JSON."""
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
        """Restore a position returned by `get_state`."""
        self._bits.state = {
            "bit_generator": "Philox",
            "state": {
                "key": np.array(saved["key"], np.uint64),
                "counter": np.array(saved["counter"], np.uint64),
            },
            "buffer": np.array(saved["buffer"], np.uint64),
            "buffer_pos": saved["buffer_pos"],
            "has_uint32": saved["has_uint32"],
            "uinteger": saved["uinteger"],
        }
