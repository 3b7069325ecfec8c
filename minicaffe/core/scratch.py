"""Memory that lasts for one forward or backward call of one layer, the same for all layers of a net."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.memory import aligned_zeros

_BYTES = np.dtype(np.uint8)


class Scratch:
    """Buffers by use, each as large as the largest request so far; what they hold at first does not matter.

    A layer has its values in them until its call returns.  All layers of a net have one Scratch, for they run one after
    the other; a layer outside of a net has its own.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, np.ndarray] = {}

    def bytes(self, use: str, nbytes: int) -> np.ndarray:
        """(at least nbytes,) uint8, at a multiple of 64; buffers of different uses do not overlap."""
        buffer = self._buffers.get(use)
        if buffer is None or buffer.size < nbytes:
            buffer = self._buffers[use] = aligned_zeros(nbytes, _BYTES)
        return buffer

    def array(self, use: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array of this shape."""
        nbytes = math.prod(shape) * dtype.itemsize
        return self.bytes(use, nbytes)[:nbytes].view(dtype).reshape(shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        return sum(buffer.size for buffer in self._buffers.values())
