"""The products of `minicaffe.layers.correlation` on the CUDA device, for one to three spatial axes."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.cuda import ops
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.layers.window import Window

Shape = tuple[int, ...]

#: how many bytes of columns are made at a time
_COLUMNS = 64 << 20


def device_window(window: Window, size: Shape, output: Shape) -> DeviceBuffer:
    """The `Window` of cuda/window.cuh in device memory."""
    rows = (size, output, *window)
    fills = (1, 1, 1, 1, 0, 1)  # of the axes that are not there
    numbers = [[fill] * (3 - len(row)) + list(row) for row, fill in zip(rows, fills)]
    buffer = DeviceBuffer(18 * 4)
    buffer.from_host(np.array(numbers, np.int32))
    return buffer


class DeviceCorrelation:
    """x (N, C, *in), w (O, C / group, *kernel) and y (N, O, *out) of one window, as device pointers.

    Windows are copied into columns (im2col) for as many samples at a time as `_COLUMNS` holds, and multiplied.
    """

    def __init__(self, window: Window, group: int, dtype: np.dtype) -> None:
        self.window, self.group, self.dtype = window, group, dtype
        self._columns: DeviceBuffer | None = None
        self._device_window: DeviceBuffer | None = None

    def prepare(self, x_shape: Shape, y_shape: Shape) -> None:
        """Take these shapes from now on; allocates, so call it when shapes change."""
        _, c, *size = x_shape
        self.samples, o, *out = y_shape
        self._device_window = device_window(self.window, size, out)
        self.x_step, self.y_step = c * math.prod(size), o * math.prod(out)
        self.rows, self.depth, self.places = (
            o // self.group,
            c // self.group * math.prod(self.window.kernel),
            math.prod(out),
        )
        self.column_step = self.group * self.depth * self.places
        self.at_once = max(1, min(self.samples, _COLUMNS // max(1, self.column_step * self.dtype.itemsize)))
        needed = self.at_once * self.column_step * self.dtype.itemsize
        if self._columns is None or self._columns.nbytes < needed:
            self._columns = DeviceBuffer(needed)

    def forward(self, x: int, w: int, y: int) -> None:
        """y = w * x."""
        for first, count in self._parts():
            self._im2col(x, first, count)
            for g in range(self.group):
                ops.gemm_batched(
                    False, False, self.rows, self.places, self.depth, 1, self._weights(w, g), self._group_columns(g), 0,
                    self._outputs(y, first, g), self.dtype, count, 0, self.column_step, self.y_step,
                )  # fmt: skip

    def data_gradient(self, dy: int, w: int, dx: int) -> None:
        """dx = the gradient with respect to x."""
        for first, count in self._parts():
            for g in range(self.group):
                ops.gemm_batched(
                    True, False, self.depth, self.places, self.rows, 1, self._weights(w, g), self._outputs(dy, first, g),
                    0, self._group_columns(g), self.dtype, count, 0, self.y_step, self.column_step,
                )  # fmt: skip
            n, start = count * self.x_step, dx + first * self.x_step * self.dtype.itemsize
            kernel("im2col", "col2im", self.dtype)(n, self._device_window, self._columns, start)

    def weight_gradient(self, x: int, dy: int, dw: int) -> None:
        """dw += the gradient with respect to w."""
        for first, count in self._parts():
            self._im2col(x, first, count)
            for i in range(count):
                for g in range(self.group):
                    columns = self._group_columns(g) + i * self.column_step * self.dtype.itemsize
                    ops.gemm(
                        False, True, self.rows, self.depth, self.places, 1, self._outputs(dy, first + i, g), columns, 1,
                        self._weights(dw, g), self.dtype,
                    )  # fmt: skip

    def _parts(self):
        return ((i, min(self.at_once, self.samples - i)) for i in range(0, self.samples, self.at_once))

    def _im2col(self, x: int, first: int, count: int) -> None:
        start = x + first * self.x_step * self.dtype.itemsize
        kernel("im2col", "im2col", self.dtype)(count * self.column_step, self._device_window, start, self._columns)

    def _weights(self, w: int, g: int) -> int:
        return w + g * self.rows * self.depth * self.dtype.itemsize

    def _group_columns(self, g: int) -> int:
        return int(self._columns) + g * self.depth * self.places * self.dtype.itemsize

    def _outputs(self, y: int, sample: int, g: int) -> int:
        return y + (sample * self.y_step + g * self.rows * self.places) * self.dtype.itemsize


class DepthwiseDeviceCorrelation:
    """The same where each channel has a kernel of its own, without columns."""

    def __init__(self, window: Window, group: int, dtype: np.dtype) -> None:
        self.window, self.channels, self.dtype = window, group, dtype

    def prepare(self, x_shape: Shape, y_shape: Shape) -> None:
        """Take these shapes from now on; allocates, so call it when shapes change."""
        self._device_window = device_window(self.window, x_shape[2:], y_shape[2:])
        self.samples, self.x_count, self.y_count = y_shape[0], math.prod(x_shape), math.prod(y_shape)

    def forward(self, x: int, w: int, y: int) -> None:
        """y = w * x."""
        self._kernel("forward")(self.y_count, self._device_window, self.channels, x, w, y)

    def data_gradient(self, dy: int, w: int, dx: int) -> None:
        """dx = the gradient with respect to x."""
        self._kernel("data_gradient")(self.x_count, self._device_window, self.channels, dy, w, dx)

    def weight_gradient(self, x: int, dy: int, dw: int) -> None:
        """dw += the gradient with respect to w."""
        grid = (self.channels * math.prod(self.window.kernel), 1)
        arguments = (self.samples, self._device_window, self.channels, x, dy, dw)
        self._kernel("weight_gradient").launch(grid, 256, *arguments)

    def _kernel(self, name: str):
        return kernel("depthwise", name, self.dtype)
