"""The product inside Convolution and Deconvolution, and its two gradients, for any number of spatial axes.

    y[n, o, t] = sum over c, j of  w[o, c, j] * x[n, c, t * stride + j * dilation - pad]

It is computed as matrix products.  Copying every window into a column (im2col) makes one large product, but the
copies are as many as the kernel has elements.  Here only the windows of the *last* axis are copied out: with the
samples laid between the other spatial axes and the last one, the columns of every other kernel offset are plain
slices of the same array.  A 5x5 kernel so needs 5 copies and 5 products instead of 25 copies.

Samples are taken a few at a time, so that the columns stay in the cache and memory does not grow with the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np

from minicaffe.layers.window import Window, overlaps, places

#: how many column elements are made at a time, about 1 MB of float32
_COLUMNS = 1 << 18
#: with fewer rows than this, a product for each offset costs more than columns for the whole kernel
_SHALLOW = 64


class Correlation:
    """x (N, C, *in), w (O, C / group, *kernel) and y (N, O, *out) of one window; arrays are written in place.

    Buffers are kept from call to call.
    """

    def __init__(self, window: Window, group: int, dtype: np.dtype) -> None:
        self.window, self.group, self.dtype = window, group, dtype
        self._buffers: dict[str, np.ndarray] = {}
        self._around: Correlation | None = None

    def forward(self, x: np.ndarray, w: np.ndarray, y: np.ndarray) -> None:
        """y = w * x."""
        matrix = self._matrix(w)
        for part in self._parts(x, y):
            columns = self._columns(x[part], y.shape[2:])
            total = self._buffer("y", (*matrix.shape[:2], _length(y[part].shape[0], y.shape[2:])))
            term = self._buffer("term", total.shape)
            for offsets, rows in self._blocks(columns, y.shape[2:]):
                first = offsets.start == 0
                np.matmul(self._flat(matrix[:, :, offsets]), rows, out=total if first else term)
                if not first:
                    total += term
            y[part] = np.moveaxis(total.reshape(self._inside_out(y[part].shape)), -2, 0)

    def data_gradient(self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray) -> None:
        """dx = the gradient with respect to x."""
        if self._flips():
            self._turned_around().forward(dy, self._flipped(w), dx)
            return
        matrix = self._matrix(w)
        for part in self._parts(dx, dy):
            d = self._turned(dy[part])
            columns = self._buffer("columns", self._columns_shape(dx[part].shape, dy.shape[2:]))
            columns[...] = 0
            for i, rows in enumerate(self._rows(columns, dy.shape[2:])):
                term = self._buffer("term", (self.group, matrix.shape[3], d.shape[2]))
                np.matmul(matrix[:, :, i].swapaxes(1, 2), d, out=term)
                rows += term.reshape(rows.shape)
            self._gather(columns, dx[part], dy.shape[2:])

    def weight_gradient(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> None:
        """dw += the gradient with respect to w."""
        total = np.zeros_like(self._matrix(dw))
        for part in self._parts(x, dy):
            d = self._turned(dy[part])
            columns = self._columns(x[part], dy.shape[2:])
            for offsets, rows in self._blocks(columns, dy.shape[2:]):
                block = total[:, :, offsets]
                block += np.matmul(d, rows.swapaxes(1, 2)).reshape(block.shape)
        channels, last = dw.shape[1], dw.shape[-1]
        dw += total.reshape(len(dw), -1, channels, last).swapaxes(1, 2).reshape(dw.shape)

    # -- the data gradient as a product of its own -------------------------------------------------------------------

    def _flips(self) -> bool:
        """With stride 1, the data gradient is the correlation of dy with w turned around; quicker, as nothing is added
        up in columns."""
        return set(self.window.stride) == {1} and all(p < e for p, e in zip(self.window.pad, self.window.extent))

    def _turned_around(self) -> Correlation:
        if self._around is None:
            pad = tuple(e - 1 - p for e, p in zip(self.window.extent, self.window.pad))
            self._around = Correlation(self.window._replace(pad=pad), self.group, self.dtype)
        return self._around

    def _flipped(self, w: np.ndarray) -> np.ndarray:
        """(O, C / group, *kernel) -> (C, O / group, *kernel), every kernel axis reversed."""
        groups = w.reshape(self.group, -1, *w.shape[1:]).swapaxes(1, 2)
        return np.flip(groups.reshape(-1, *groups.shape[2:]), tuple(range(2, w.ndim)))

    # -- columns ---------------------------------------------------------------------------------------------------

    def _columns_shape(self, x_shape: tuple[int, ...], out: tuple[int, ...]) -> tuple[int, ...]:
        """(C, last kernel axis, *the other axes with their padding, N, last output axis)."""
        n, channels, *size = x_shape
        others = [s + 2 * p for s, p in zip(size[:-1], self.window.pad)]
        return (channels, self.window.kernel[-1], *others, n, out[-1])

    def _columns(self, x: np.ndarray, out: tuple[int, ...]) -> np.ndarray:
        """x with the windows of its last axis copied out, zero in the padding."""
        columns = self._buffer("columns", self._columns_shape(x.shape, out))
        if any(self.window.pad):
            columns[...] = 0
        turned = np.moveaxis(x, 0, -2)
        for inner, inside, source in self._last_axis(columns, x.shape[-1], out[-1]):
            inner[..., inside] = turned[..., source]
        return columns

    def _gather(self, columns: np.ndarray, dx: np.ndarray, out: tuple[int, ...]) -> None:
        """The reverse of `_columns`: every element of dx is the sum of its copies."""
        total = self._buffer("x", np.moveaxis(dx, 0, -2).shape)
        total[...] = 0
        for inner, inside, source in self._last_axis(columns, dx.shape[-1], out[-1]):
            total[..., source] += inner[..., inside]
        dx[...] = np.moveaxis(total, -2, 0)

    def _last_axis(self, columns: np.ndarray, size: int, out: int) -> Iterator[tuple[np.ndarray, slice, slice]]:
        """For each element of the kernel's last axis: its columns, which of them lie inside x, and where."""
        unpadded = tuple(slice(p, n - p) for p, n in zip(self.window.pad[:-1], columns.shape[2:-2]))
        for j, inside, source in overlaps(size, out, *(field[-1] for field in self.window)):
            yield columns[(slice(None), j, *unpadded)], inside, source

    def _rows(self, columns: np.ndarray, out: tuple[int, ...]) -> Iterator[np.ndarray]:
        """For each offset along the kernel's axes but the last: the columns under it."""
        for offset in product(*(range(k) for k in self.window.kernel[:-1])):
            yield columns[(slice(None), slice(None), *places(offset, self.window, out[:-1]))]

    def _blocks(self, columns: np.ndarray, out: tuple[int, ...]) -> Iterator[tuple[slice, np.ndarray]]:
        """Offsets and the columns under them, (group, rows, places); few channels are multiplied all at once."""
        each = (rows.reshape(self.group, -1, _length(columns.shape[-2], out)) for rows in self._rows(columns, out))
        if columns.shape[0] // self.group * columns.shape[1] < _SHALLOW:
            blocks = list(each)
            shape = (self.group, sum(b.shape[1] for b in blocks), blocks[0].shape[2])
            yield slice(0, len(blocks)), np.concatenate(blocks, 1, out=self._buffer("block", shape))
        else:
            for i, block in enumerate(each):
                yield slice(i, i + 1), block

    # -- other shapes ----------------------------------------------------------------------------------------------

    def _matrix(self, w: np.ndarray) -> np.ndarray:
        """w as (group, O / group, offsets, C / group * last kernel axis)."""
        split = w.reshape(self.group, w.shape[0] // self.group, w.shape[1], -1, w.shape[-1]).swapaxes(2, 3)
        return split.reshape(*split.shape[:3], -1)

    @staticmethod
    def _flat(matrix: np.ndarray) -> np.ndarray:
        """The same with the offsets in one row."""
        return matrix.reshape(*matrix.shape[:2], -1)

    def _turned(self, y: np.ndarray) -> np.ndarray:
        """y as (group, O / group, places), the places in the order of the columns."""
        turned = self._buffer("y", self._inside_out(y.shape))
        turned[...] = np.moveaxis(y, 0, -2)
        return turned.reshape(self.group, y.shape[1] // self.group, _length(len(y), y.shape[2:]))

    @staticmethod
    def _inside_out(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[1:-1], shape[0], shape[-1])

    def _parts(self, x: np.ndarray, y: np.ndarray) -> Iterator[slice]:
        """Slices of the batch, as many samples each as `_COLUMNS` allows."""
        step = max(1, _COLUMNS // max(1, math.prod(self._columns_shape((1, *x.shape[1:]), y.shape[2:]))))
        return (slice(i, min(i + step, len(x))) for i in range(0, len(x), step))

    def _buffer(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        count = math.prod(shape)
        if name not in self._buffers or self._buffers[name].size < count:
            self._buffers[name] = np.empty(count, self.dtype)
        return self._buffers[name][:count].reshape(shape)


def _length(samples: int, out: tuple[int, ...]) -> int:
    """How many windows there are."""
    return samples * math.prod(out)
