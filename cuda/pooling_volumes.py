"""Maximum and average pooling on the device over up to three spatial axes, by pooling_volumes.cu."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.pooling import CudaPooling
from minicaffe.cuda.tables import MOST_AXES, device_window


class CudaVolumePooling:
    """Pooling with one window and one pair of shapes; all pointers are device addresses.

    window: one number for each spatial axis in each field (minicaffe.layers.shared.window).
    x_shape, y_shape: (N, C, *spatial) with at most `tables.MOST_AXES` spatial axes.
    whole: whether means are sums divided by the elements of a window, not by those within the padded picture.
    """

    def __init__(self, window: Any, x_shape: tuple, y_shape: tuple, dtype: np.dtype, whole: bool = False) -> None:
        self.window, self._shapes, self._whole, self._dtype = window, (x_shape, y_shape), int(whole), dtype
        self._table: DeviceBuffer | None = None

    def forward(self, x: int, y: int, mask: Any = 0, top_mask: int = 0) -> None:
        """y = the maximum or, without a mask, the mean of each window of x; the masks as of `CudaPooling.forward`."""
        self._launch("forward", self._shapes[1], x, y, mask, top_mask)

    def backward(self, dy: int, dx: int, mask: Any = 0) -> None:
        """dx = the gradient with respect to x."""
        self._launch("backward", self._shapes[0], dy, mask, dx)

    def _launch(self, name: str, shape: tuple, *arrays: Any) -> None:
        if self._table is None:
            self._table = device_window(self.window, *(shape[2:] for shape in self._shapes))
        kernel("pooling_volumes", name, self._dtype)(math.prod(shape), self._table, self._whole, *arrays)


def pooling_for(
    window: Any, x_shape: tuple, y_shape: tuple, dtype: np.dtype, whole: bool
) -> CudaPooling | CudaVolumePooling | None:
    """Return the pooling of pictures or volumes on the device; None for more spatial axes than kernels support."""
    if window.is_planar and not whole:
        return CudaPooling(window, x_shape, y_shape, dtype)
    if len(window.kernel) > MOST_AXES:
        return None
    return CudaVolumePooling(window, x_shape, y_shape, dtype, whole)
