"""Random numbers on the device: the same that ``minicaffe.core.random.Stream`` gives on the host.

The counter of a stream lives in device memory and a kernel moves it on, so that a captured step draws new numbers each
time it is replayed; the host's copy of the stream is moved on alike, so that snapshots tell the position.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.random import Stream
from minicaffe.cuda import graph
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer


class DeviceStream:
    """What kernels draw from in place of ``stream.uniform_u32(n)``; one for each layer that draws.

    A kernel takes ``const unsigned long long *state``, the pointer that ``draw`` returns, and calls
    ``philox_u32(state, i)``.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._state = DeviceBuffer(4 * 8)
        self._expected: tuple[int, int, int] | None = None  # the key and next counter that the device holds

    def draw(self, n: int) -> int:
        """Reserve n numbers: a device pointer that stands for them until the next draw."""
        if not graph.capturing():
            self._advance(n)
        kernel("random", "take_blocks").launch((1, 1), 1, -(-n // 8), self._state)
        graph.before_replay(lambda: self._advance(n))
        return self._state.ptr

    def _advance(self, n: int) -> None:
        """Move the host's stream on; the device's follows by itself, unless somebody has set or used the stream."""
        key, counter = self._stream.take_blocks(n)
        if (*key, counter) != self._expected:
            self._state.from_host(np.array([*key, counter, counter], np.uint64))
        self._expected = (*key, counter + -(-n // 8))
