"""Everything random draws from one counter-based generator, Philox 4x64 (Salmon et al., SC'11).

A `Stream` is a key and a counter.  Each layer that draws has a stream of its own, so that no layer's draws depend
on another's; a stream's state is a handful of integers, so a snapshot can hold it and a resumed run goes on with the
numbers an uninterrupted one would have drawn.  A CUDA kernel that is given the same key and counter draws the same
numbers (cuda/common.cuh).
"""

from __future__ import annotations

import secrets
import threading

import numpy as np

from minicaffe import forks
from minicaffe.core.settings import PerThread

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


class _Source:
    """Hands out streams: the same seed gives the same streams in the same order."""

    def __init__(self, seed: int) -> None:
        self._seed, self._next = seed, 0
        self._lock = forks.renewed(threading.Lock())

    def stream(self) -> Stream:
        with self._lock:
            self._next += 1
            return Stream(self._seed, self._next)


class _Sources:
    """The source of each thread: the one it has seeded, else the main thread's."""

    source = PerThread(_Source(secrets.randbits(63)))


_sources = _Sources()


def set_random_seed(seed: int) -> None:
    """Seed every stream that this thread makes from now on (`solver.random_seed`, or a script).

    Without it each process differs.  Threads that have not seeded draw from the main thread's streams.
    """
    _sources.source = _Source(int(seed))


def new_stream() -> Stream:
    """The thread's next stream: one for each layer, in the order in which they are built."""
    return _sources.source.stream()
