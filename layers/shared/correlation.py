"""The product inside Convolution and Deconvolution, and its two gradients, for any number of spatial axes.

    y[n, o, t] = sum over c, j of  w[o, c, j] * x[n, c, t * stride + j * dilation - pad]

Each is computed as matrix products.  Copying every window into a column (im2col) gives one large product, but copies
the input once for each element of the kernel.  Here only the windows along the *last* axis are copied: with the sample
axis between the other spatial axes and the last one, the columns at every offset along the other axes of the kernel
are slices of the same array.  A 5x5 kernel needs 5 copies and 5 products instead of 25 copies.  (`_at_once`: when the
columns of the whole kernel are faster.)

A few samples are processed at a time, so that the columns stay in the cache and memory does not grow with the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np

from minicaffe.core.scratch import Scratch
from minicaffe.layers.shared.views import at
from minicaffe.layers.shared.window import Window, overlaps, places

#: elements of the columns that are made at a time, about 1 MB of float32
_COLUMNS = 1 << 18
#: inner dimension below which a product for each offset is too slow
_SHALLOW = 64
#: elements of a left factor that is small, 16 KB of float32; with such a factor BLAS is up to twice as fast on a few
#: columns at a time as on all of them
_SMALL, _NARROW = 1 << 12, 256


class Correlation:
    """x (N, C, *in), w (O, C / group, *kernel) and y (N, O, *out) of one window; arrays are written in place."""

    def __init__(self, window: Window, group: int, dtype: np.dtype, scratch: Scratch | None = None) -> None:
        self.window, self.group, self.dtype = window, group, dtype
        self.scratch = scratch or Scratch()
        self._transpose: Correlation | None = None

    def forward(self, x: np.ndarray, w: np.ndarray, y: np.ndarray) -> None:
        """y = w * x."""
        matrices = self._matrices(w, y)
        for part, blocks in self._all_blocks(x, w, y):
            self._multiply(matrices, blocks, y[part])

    def data_gradient(self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray) -> None:
        """dx = the gradient with respect to x."""
        if self._flips() and not self._at_once(w, dy):
            self._flipped_correlation().forward(dy, self._flipped(w), dx)
            return
        matrices = self._matrices(w, dy)
        for part in self._parts(dx, dy):
            d = self._turned(dy[part])
            columns = self._buffer("columns", self._columns_shape(dx[part].shape, dy.shape[2:]))
            columns[...] = 0
            rows = list(self._rows(columns, dy.shape[2:]))
            for i, matrix in enumerate(matrices):
                term = self._buffer("term", (self.group, matrix.shape[2], d.shape[2]))
                np.matmul(matrix.swapaxes(1, 2), d, out=term)
                self._add_up(term, rows if len(matrices) == 1 else rows[i : i + 1])
            self._gather(columns, dx[part], dy.shape[2:])

    def weight_gradient(self, x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> None:
        """dw += the gradient with respect to w."""
        totals = [np.zeros_like(matrix.swapaxes(1, 2)) for matrix in self._matrices(dw, dy)]
        for part, blocks in self._all_blocks(x, dw, dy):
            self._add_products(blocks, dy[part], totals)
        for matrix, total in zip(self._offsets(dw, dy), totals):
            matrix += total.swapaxes(1, 2).reshape(matrix.shape)

    def gradients(self, x: np.ndarray, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, dw: np.ndarray) -> None:
        """Both gradients.  With stride 1 both are products of the columns of dy, which are made once."""
        if not self._flips():
            self.weight_gradient(x, dy, dw)
            self.data_gradient(dy, w, dx)
            return
        flipped, weights = self._flipped_correlation(), self._flipped(w)
        gradient, matrices = np.zeros(weights.shape, self.dtype), flipped._matrices(weights, dx)
        totals = [np.zeros_like(matrix.swapaxes(1, 2)) for matrix in matrices]
        for part, blocks in flipped._all_blocks(dy, weights, dx):
            flipped._add_products(blocks, x[part], totals)
            flipped._multiply(matrices, blocks, dx[part])
        for matrix, total in zip(flipped._offsets(gradient, dx), totals):
            matrix += total.swapaxes(1, 2).reshape(matrix.shape)
        dw += self._flipped(gradient)

    # -- products of blocks of columns -------------------------------------------------------------------------------

    def _all_blocks(self, x: np.ndarray, w: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, list[np.ndarray]]]:
        """Samples that are processed together, and the right factors of their products, one for each of `_matrices`."""
        whole = self._at_once(w, y)
        for part in self._parts(x, y):
            yield part, list(self._blocks(self._columns(x[part], y.shape[2:]), y[part], whole))

    def _multiply(self, matrices: list[np.ndarray], blocks: list[np.ndarray], y: np.ndarray) -> None:
        """y = the sum of matrix block."""
        total = self._buffer("y", (*matrices[0].shape[:2], _length(y)))
        term = self._buffer("term", total.shape)
        for i, (matrix, block) in enumerate(zip(matrices, blocks)):
            self._product(matrix, block, term if i else total)
            if i:
                total += term
        y[...] = np.moveaxis(total.reshape(_inside_out(y.shape)), -2, 0)

    @staticmethod
    def _product(matrix: np.ndarray, block: np.ndarray, out: np.ndarray) -> None:
        """out = matrix block, a few columns at a time if the matrix is small."""
        length = block.shape[-1]
        step = _NARROW if matrix[0].size <= _SMALL else max(1, length)
        for i in range(0, length, step):
            np.matmul(matrix, block[..., i : i + step], out=out[..., i : i + step])

    def _add_products(self, blocks: list[np.ndarray], y: np.ndarray, totals: list[np.ndarray]) -> None:
        """Add block y^T to each total.  (BLAS takes longer for the transpose, y block^T.)"""
        d = self._turned(y).swapaxes(1, 2)
        for total, block in zip(totals, blocks):
            total += np.matmul(block, d)

    # -- the data gradient as a product of its own -------------------------------------------------------------------

    def _flips(self) -> bool:
        """Whether the data gradient is computed as a correlation of dy with the flipped kernel.

        Possible with stride 1, and faster, as no columns have to be summed.
        """
        return set(self.window.stride) == {1} and all(p < e for p, e in zip(self.window.pad, self.window.extent))

    def _flipped_correlation(self) -> Correlation:
        if self._transpose is None:
            pad = tuple(e - 1 - p for e, p in zip(self.window.extent, self.window.pad))
            self._transpose = Correlation(self.window._replace(pad=pad), self.group, self.dtype, self.scratch)
        return self._transpose

    def _flipped(self, w: np.ndarray) -> np.ndarray:
        """(O, C / group, *kernel) -> (C, O / group, *kernel), every kernel axis reversed."""
        outputs, inputs = len(w) // self.group, w.shape[1]
        groups = w.reshape(self.group, outputs, *w.shape[1:]).swapaxes(1, 2)
        return np.flip(groups.reshape(self.group * inputs, outputs, *w.shape[2:]), tuple(range(2, w.ndim)))

    # -- columns ---------------------------------------------------------------------------------------------------

    def _columns_shape(self, x_shape: tuple[int, ...], out: tuple[int, ...]) -> tuple[int, ...]:
        """(C, last kernel axis, *the other axes with their padding, N, last output axis)."""
        n, channels, *size = x_shape
        others = [s + 2 * p for s, p in zip(size[:-1], self.window.pad)]
        return (channels, self.window.kernel[-1], *others, n, out[-1])

    def _columns(self, x: np.ndarray, out: tuple[int, ...]) -> np.ndarray:
        """The windows along the last axis of x, zero in the padding."""
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
        """For each element of the kernel's last axis: its columns, which of them are inside x, and where."""
        unpadded = tuple(slice(p, n - p) for p, n in zip(self.window.pad[:-1], columns.shape[2:-2]))
        for j, inside, source in overlaps(size, out, *(field[-1] for field in self.window)):
            yield at(columns, slice(None), j, *unpadded), inside, source

    def _rows(self, columns: np.ndarray, out: tuple[int, ...]) -> Iterator[np.ndarray]:
        """The columns at each offset along all axes of the kernel but the last."""
        for offset in product(*(range(k) for k in self.window.kernel[:-1])):
            yield at(columns, slice(None), slice(None), *places(offset, self.window, out[:-1]))

    def _blocks(self, columns: np.ndarray, y: np.ndarray, whole: bool) -> Iterator[np.ndarray]:
        """The right factors of the products, (group, rows, windows): views of the columns where the stride is 1."""
        length = _length(y)
        each = (r.reshape(*columns.shape[:2], length) for r in self._rows(columns, y.shape[2:]))
        if whole:
            offsets = math.prod(self.window.kernel[:-1])
            block = self._buffer("block", (columns.shape[0], offsets, columns.shape[1], length))
            for i, rows in enumerate(each):
                block[:, i] = rows
            yield block.reshape(self.group, block.shape[0] // self.group * offsets * columns.shape[1], length)
        else:
            for rows in each:
                yield rows.reshape(self.group, rows.shape[0] // self.group * rows.shape[1], length)

    @staticmethod
    def _add_up(block: np.ndarray, all_rows: list[np.ndarray]) -> None:
        """The reverse of `_blocks`: add a block to the columns that it corresponds to."""
        channels, last, *rest = all_rows[0].shape
        for i, rows in enumerate(all_rows):
            rows += block.reshape(channels, len(all_rows), last, *rest)[:, i]

    # -- other shapes ----------------------------------------------------------------------------------------------

    def _at_once(self, w: np.ndarray, y: np.ndarray) -> bool:
        """Whether the columns of the whole kernel are made.

        Faster with few channels, where a product for each offset is small, and with more output channels than windows,
        where reordering the weights by offset dominates.
        """
        return w.shape[1] * w.shape[-1] < _SHALLOW or w.shape[0] > _length(y)

    def _matrices(self, w: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        """w as (group, O / group, rows): one matrix, a view, or one for each offset along all axes but the last."""
        return [m.reshape(self.group, len(w) // self.group, math.prod(m.shape[1:])) for m in self._offsets(w, y)]

    def _offsets(self, w: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        """Views of w: the parts that are `_matrices`."""
        if self._at_once(w, y):
            return [w]
        return list(np.moveaxis(w.reshape(*w.shape[:2], -1, w.shape[-1]), 2, 0))

    def _turned(self, y: np.ndarray) -> np.ndarray:
        """y as (group, O / group, places), with the places in the order of the columns."""
        turned = self._buffer("y", _inside_out(y.shape))
        turned[...] = np.moveaxis(y, 0, -2)
        return turned.reshape(self.group, y.shape[1] // self.group, _length(y))

    def _parts(self, x: np.ndarray, y: np.ndarray) -> Iterator[slice]:
        """Slices of the batch, as many samples each as `_COLUMNS` allows."""
        step = max(1, _COLUMNS // max(1, math.prod(self._columns_shape((1, *x.shape[1:]), y.shape[2:]))))
        return (slice(i, min(i + step, len(x))) for i in range(0, len(x), step))

    def _buffer(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        return self.scratch.array(name, shape, self.dtype)


def _inside_out(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(C, *other spatial axes, N, last spatial axis) of (N, C, *spatial): the order of the axes in the columns."""
    return (*shape[1:-1], shape[0], shape[-1])


def _length(y: np.ndarray) -> int:
    """The number of windows: samples times output places."""
    return y.shape[0] * math.prod(y.shape[2:])
