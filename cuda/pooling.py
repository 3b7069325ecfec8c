"""Maximum and average pooling on the device, with the activations in front of it and behind it.

pooling.cu has kernels for any window, pooling_halves.cu faster ones for the usual windows that halve a picture.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minicaffe.cuda import planes
from minicaffe.cuda.kernels import BLOCK, PACK, kernel
from minicaffe.cuda.tables import aligned, divisor


class Activation(NamedTuple):
    """An activation as the kernels take it: 0 for none, 1 for a ReLU with a slope, 2 for Sigmoid, 3 for TanH."""

    kind: int = 0
    slope: float = 0.0


IDENTITY = Activation()
_RELU = 1


class CudaPooling:
    """Pooling with one window and one pair of shapes; all pointers are device addresses.

    window: kernel, stride and pad, pairs (minicaffe.layers.shared.window).  x is (N, C, H, W), y (N, C, h, w).
    geometry: H, W, h, w, kernel and stride, as kernels take them.
    """

    def __init__(self, window: Any, x_shape: tuple[int, ...], y_shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.planes, self.size, self.out = x_shape[0] * x_shape[1], x_shape[2:], y_shape[2:]
        self.window, self.dtype = window, np.dtype(dtype)
        self.geometry = (*self.size, *self.out, *window.kernel, *window.stride)
        self._sizes = (self.planes, *self.geometry, *window.pad)
        self._divisions = (*divisor(window.stride[0])[1:], *divisor(window.stride[1])[1:])
        self._halves = self._is_half()

    def forward(
        self,
        x: int,
        y: int,
        mask: Any = 0,
        top_mask: int = 0,
        front: Activation = IDENTITY,
        acted: int = 0,
        behind: Activation = IDENTITY,
    ) -> None:
        """y = the maximum or, without a mask, the mean of each window of x.

        mask: receives the place of each maximum, an int; top_mask: likewise, as a number; 0: none.
        front: an activation that is computed first, with its result in `acted`; behind: one of the result.
        """
        if self._halves and not front.kind and behind.kind <= _RELU and not top_mask and aligned(x, y, mask):
            self._forward_halves(x, y, mask, behind)
            return
        staged = self._plane_bytes() if front.kind else 0
        threads = planes.threads(self.out[1], self.out[0], self.planes, staged)
        rows = self.out[0] if front.kind else planes.strip(self.out[0], self.planes, threads)
        arguments = (*self._sizes, rows, *front, *behind, x, acted, y, mask, top_mask)
        self._launch("forward", threads, -(-self.out[0] // rows), arguments, threads[2] * staged)

    def backward(
        self,
        dy: int,
        dx: int,
        mask: Any = 0,
        front: Activation = IDENTITY,
        x: int = 0,
        pooled: int = 0,
        behind: Activation = IDENTITY,
        y: int = 0,
    ) -> None:
        """dx = the gradient with respect to x, or to the bottom of the activation in front, whose top is x.

        pooled: receives the gradient with respect to x where that is another one; 0: it does not.
        behind: an activation whose top is y; dy becomes the gradient of its bottom.
        """
        if self._halves and max(front.kind, behind.kind) <= _RELU and aligned(dy, dx, mask, x, pooled, y):
            if self.fits_behind():
                read = front.slope, behind.slope, x if front.kind else 0, y if behind.kind else 0
                self._backward_halves(mask, read, (dy, pooled, dx))
                return
        columns = self.size[1] // PACK if self.size[1] % PACK == 0 else self.size[1]
        masked = bool(mask)
        threads = planes.threads(columns, self.size[0], self.planes, self.out[0] * self._row_bytes(masked))
        rows, window_rows = self._staged(threads, behind.kind != 0, masked)
        shared = threads[2] * window_rows * self._row_bytes(masked)
        sizes = (*self._sizes, rows, *self._divisions, window_rows)
        arguments = (*sizes, *front, *behind, x, y, mask, dy, pooled, dx)
        self._launch("backward", threads, -(-self.size[0] // rows), arguments, shared)

    def fits_in_front(self) -> bool:
        """Whether an activation in front can be computed with the forward pass: a plane fits in shared memory."""
        return self._plane_bytes() <= planes.SHARED

    def fits_behind(self) -> bool:
        """Whether the gradient of an activation behind can be computed with the backward pass."""
        return self.out[0] * self._row_bytes(True) <= planes.SHARED

    # -- inside ----------------------------------------------------------------------------------------------------

    def _launch(self, name: str, threads: tuple[int, int, int], strips: int, arguments: tuple, shared: int) -> None:
        if self.planes and threads[0] and threads[1]:
            grid = (-(-self.planes // threads[2]), strips)
            kernel("pooling", name, self.dtype).launch(grid, threads, *arguments, shared=shared)

    def _is_half(self) -> bool:
        """Whether pooling_halves.cu has kernels for this window and these shapes."""
        window, (height, width) = self.window, self.size
        usual = window.kernel in ((2, 2), (3, 3)) and window.stride == (2, 2) and window.pad == (0, 0)
        halved = height % 2 == 0 and width % 8 == 0 and tuple(self.out) == (height // 2, width // 2)
        return usual and halved and self.planes > 0

    def _half_geometry(self) -> tuple[int, ...]:
        rows, columns = self.out
        return (rows, columns, self.window.kernel[0], *divisor(columns // 4)[1:], *divisor(rows)[1:])

    def _forward_halves(self, x: int, y: int, mask: Any, behind: Activation) -> None:
        slope = behind.slope if behind.kind else 1.0
        name, masks = ("max_forward", (mask,)) if mask else ("ave_forward", ())
        n = self.planes * self.out[0] * self.out[1]
        kernel("pooling_halves", name, self.dtype).packs(n, *self._half_geometry(), slope, x, y, *masks)

    def _backward_halves(self, mask: Any, read: tuple, written: tuple) -> None:
        name, masks = ("max_backward", (mask,)) if mask else ("ave_backward", ())
        windows, plane_bytes = self.out[0] * self.out[1], self.out[0] * self._row_bytes(bool(mask))
        each = max(1, min(self.planes, PACK * BLOCK // windows, planes.SHARED // plane_bytes))
        arguments = (4 * self.planes * windows, each, *self._half_geometry(), *read, *masks, *written)
        grid, shared = (-(-self.planes // each), 1), each * plane_bytes
        kernel("pooling_halves", name, self.dtype).launch(grid, BLOCK, *arguments, shared=shared)

    def _plane_bytes(self) -> int:
        return self.size[0] * self.size[1] * self.dtype.itemsize

    def _row_bytes(self, masked: bool) -> int:
        """Bytes of shared memory for the gradients of a row of windows, and with a mask for their places."""
        return self.out[1] * (self.dtype.itemsize + 4 * masked)

    def _staged(self, threads: tuple[int, int, int], whole: bool, masked: bool) -> tuple[int, int]:
        """The rows of a strip of x, all if `whole`, and the most rows of windows that cover it and fit; 0: none do."""
        if whole:
            return self.size[0], self.out[0]
        (kernel_h, _), (stride, _) = self.window.kernel, self.window.stride
        fitting = planes.SHARED // (threads[2] * self._row_bytes(masked))
        rows = planes.strip(self.size[0], self.planes, threads)
        if fitting < self.out[0]:
            rows = min(rows, fitting * stride - kernel_h + 1)
            if rows < threads[1]:
                return planes.strip(self.size[0], self.planes, threads), 0
        return rows, min(self.out[0], (rows + kernel_h - 2) // stride + 1)
