"""Strided views of blobs on the device, for the copies made by Crop, Permute, Reverse and ShuffleChannel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer


class StridedView:
    """A box of a blob with permuted axes.

    shape: shape of the blob.
    lengths: lengths of the box along the blob's axes (default: `shape`).
    offset: index of its first element along each axis (default: 0).
    order: the blob's axes in the order of the view's axes (default: unchanged).
    backwards: the blob's axes on which the view runs from the last element to the first (default: none).

    Create a new view when shapes change.  The geometry is uploaded at the first copy.
    """

    def __init__(
        self,
        shape: Sequence[int],
        lengths: Sequence[int] | None = None,
        offset: Sequence[int] | None = None,
        order: Sequence[int] | None = None,
        backwards: Sequence[int] = (),
    ) -> None:
        strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
        order = range(len(shape)) if order is None else order
        lengths = shape if lengths is None else lengths
        self._start = sum(o * s for o, s in zip(offset or (), strides))
        for axis in backwards:
            self._start += (lengths[axis] - 1) * strides[axis]
            strides[axis] *= -1
        self._geometry = np.array([[lengths[a] for a in order], [strides[a] for a in order]], np.int32)
        self._count = int(np.prod(lengths))
        self._buffer: DeviceBuffer | None = None

    def take(self, blob: int, out: int, dtype: np.dtype) -> None:
        """Copy the elements of the view of `blob`, in order, to the contiguous memory `out`; both device pointers."""
        self._run("take", blob, out, dtype)

    def put(self, values: int, blob: int, dtype: np.dtype) -> None:
        """Copy contiguous `values` into the view of `blob`; other elements are unchanged.  Both are device pointers."""
        self._run("put", values, blob, dtype)

    def _run(self, name: str, source: int, target: int, dtype: np.dtype) -> None:
        if self._buffer is None:
            self._buffer = DeviceBuffer(max(self._geometry.nbytes, 1))
            self._buffer.from_host(self._geometry)
        axes = self._geometry.shape[1]
        kernel("strided", name, dtype)(self._count, axes, self._buffer, self._start, source, target)
