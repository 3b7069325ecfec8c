"""Random numbers on the device, identical to those of ``minicaffe.core.random.Stream`` on the host.

The counter of a stream is in device memory and is advanced by the kernels that draw, so that each replay of a captured
step draws new numbers. The host's Stream is advanced by the same amount, so that snapshots contain the right position.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.random import Stream
from minicaffe.cuda import graph
from minicaffe.cuda.memory import DeviceBuffer


class DeviceStream:
    """A random stream on the device: kernels draw the numbers of ``stream.uniform_u32(n)``.

    A kernel takes the pointer returned by ``draw`` as ``unsigned long long *state``, calls ``philox_u32(state, i)`` for
    number i, a uint32, and in its last block ``drawn(state, n)``.

    stream: the host's stream, which is advanced with each draw.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._state = DeviceBuffer(4 * 8)  # key, key, counter of the next draw, counter of the last one
        self._expected: tuple[int, int, int] | None = None  # key and next counter in device memory

    def draw(self, n: int) -> int:
        """Reserve n numbers for the next kernel; return a pointer to the stream's state on the device."""
        if not graph.capturing():
            self._advance(n)
        graph.before_replay(lambda: self._advance(n))
        return self._state.ptr

    def _advance(self, n: int) -> None:
        """Advance the host's stream; upload its state if it was set or used on the host since the last draw."""
        key, counter = self._stream.take_blocks(n)
        if (*key, counter) != self._expected:
            self._state.from_host(np.array([*key, counter, counter], np.uint64))
        self._expected = (*key, counter + -(-n // 8))
