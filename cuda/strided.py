"""A strided view of a blob on the device: what Crop, Permute and ShuffleChannel copy from and to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer


class StridedView:
    """Of a blob of `shape`: from `offset` on along each axis, `lengths` numbers, axes then taken in `order`.

    Made when shapes change; the geometry is sent to the device at the first copy.
    """

    def __init__(
        self,
        shape: Sequence[int],
        lengths: Sequence[int] | None = None,
        offset: Sequence[int] | None = None,
        order: Sequence[int] | None = None,
    ) -> None:
        strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
        order = range(len(shape)) if order is None else order
        lengths = shape if lengths is None else lengths
        self._start = sum(o * s for o, s in zip(offset or (), strides))
        self._geometry = np.array([[lengths[a] for a in order], [strides[a] for a in order]], np.int32)
        self._count = int(np.prod(lengths))
        self._buffer: DeviceBuffer | None = None

    def take(self, blob: int, out: int, dtype: np.dtype) -> None:
        """out = the view's numbers, one after another."""
        self._run("take", blob, out, dtype)

    def put(self, values: int, blob: int, dtype: np.dtype) -> None:
        """The view's numbers = values; the rest of the blob stays."""
        self._run("put", values, blob, dtype)

    def _run(self, name: str, source: int, target: int, dtype: np.dtype) -> None:
        if self._buffer is None:
            self._buffer = DeviceBuffer(max(self._geometry.nbytes, 1))
            self._buffer.from_host(self._geometry)
        axes = self._geometry.shape[1]
        kernel("strided", name, dtype)(self._count, axes, self._buffer, self._start, source, target)
