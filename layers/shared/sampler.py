"""The base of layers that read a picture at positions that another bottom gives, by bilinear interpolation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.cuda import ops
from minicaffe.layers.shared.views import by_channel

ZEROS, EDGE, INSIDE = range(3)  # in warp.cu, too
_INT = 4  # bytes

Tap = tuple[np.ndarray, np.ndarray]  #: indices along an axis, (N, places), and their weights


class Axis(NamedTuple):
    """One coordinate of positions: what the picture's value there, and its slope there, consist of.

    An index is inside of the picture where its weight is not 0.
    """

    value: Sequence[Tap]
    slope: Sequence[Tap]


class Sampler(Layer):
    """y[c](p) = x[c](position of p), between the four places around it: rows i, i + 1 and columns j, j + 1.

    A type states what the positions are and what the border does:

    absolute: whether bottom 1 has positions; otherwise displacements from p.
    border: ZEROS: the picture is continued by zeros; EDGE: positions below the size count, and the last row and column
        are repeated; INSIDE: positions up to the last row and column count, and at a whole position the slope is the
        mean of those on both sides, of which one outside is 0.
    outside: the value at positions that do not count.
    """

    fork = "FlowNet 2.0"
    exact_num_bottom = 2
    exact_num_top = 1
    in_place = False
    backward_reads = ("bottom",)
    absolute = False
    border = INSIDE
    outside = 0.0

    @classmethod
    def kernel_file(cls):
        return "extensions/warp"

    def top_shapes(self, bottom_shapes):
        x, positions = bottom_shapes
        if len(x) != 4:
            raise self.error(f"bottom 0 must be (N, C, H, W), got {x}")
        expected = (x[0], 2, *x[2:])
        if positions != expected:
            raise self.error(f"bottom 1 must be (N, 2, H, W), here {expected}, got {positions}")
        return [x]

    # -- numpy -----------------------------------------------------------------------------------------------------

    def forward_cpu(self, bottom, top):
        x, (rows, columns) = by_channel(bottom[0].read_data()), self._axes(bottom)
        y = by_channel(top[0].data)
        self._read(x, rows.value, columns.value, y)
        if self.outside:
            y.transpose(0, 2, 1)[self._nowhere(rows) | self._nowhere(columns)] = self.outside

    def backward_cpu(self, top, propagate_down, bottom):
        x, dy = by_channel(bottom[0].read_data()), by_channel(top[0].read_diff())
        rows, columns = self._axes(bottom)
        if propagate_down[0]:
            self._scatter(dy, rows.value, columns.value, by_channel(bottom[0].diff))
        if propagate_down[1]:
            slopes, diff = np.empty_like(dy), by_channel(bottom[1].diff)
            for channel, taps in enumerate([(rows.value, columns.slope), (rows.slope, columns.value)]):
                self._read(x, *taps, slopes)
                diff[:, channel] = np.einsum("ncp,ncp->np", slopes, dy)

    def _axes(self, bottom) -> list[Axis]:
        """The axes of rows and of columns."""
        positions = by_channel(bottom[1].read_data())
        height, width = bottom[0].shape[2:]
        places = np.arange(height * width)
        starts = (0, 0) if self.absolute else (places // width, places % width)
        return [self._axis(positions[:, 1 - i] + starts[i], size) for i, size in enumerate((height, width))]

    def _axis(self, position: np.ndarray, size: int) -> Axis:
        low, high = (-1 if self.border == ZEROS else 0), (size - 1 if self.border == INSIDE else size)
        counts = (position >= low) & (position < high) | (self.border == INSIDE) & (position == high)
        place = np.where(counts, position, 0)
        near = np.floor(place).astype(np.intp)
        far, part = near + 1, (place - near).astype(self.dtype)
        left, right, share = near, far, np.ones_like(part)
        if self.border != ZEROS:
            far = right = np.minimum(far, size - 1)
        if self.border == INSIDE:
            left, share = np.where(part, near, np.maximum(near - 1, 0)), np.where(part, share, 0.5 * share)

        def tap(index: np.ndarray, weight: np.ndarray) -> Tap:
            inside = counts & (index >= 0) & (index < size)
            return np.where(inside, index, 0), np.where(inside, weight, 0)

        return Axis([tap(near, 1 - part), tap(far, part)], [tap(left, -share), tap(right, share)])

    def _taps(self, rows: Sequence[Tap], columns: Sequence[Tap], width: int):
        """Yield the flat places (N, 1, places) and weights of the pairs of a row and a column."""
        for (row, of_row), (column, of_column) in itertools.product(rows, columns):
            yield (row * width + column)[:, None], (of_row * of_column)[:, None]

    def _read(self, x: np.ndarray, rows: Sequence[Tap], columns: Sequence[Tap], y: np.ndarray) -> None:
        """y = sum over rows and columns of weight * x; a weight of 0 makes 0 of any value."""
        y[...] = 0
        for places, weights in self._taps(rows, columns, self.width):
            values = np.take_along_axis(x, places, 2)
            y += np.multiply(values, weights, out=np.zeros_like(values), where=weights != 0)

    def _scatter(self, dy: np.ndarray, rows: Sequence[Tap], columns: Sequence[Tap], dx: np.ndarray) -> None:
        taps = list(self._taps(rows, columns, self.width))
        places, weights = (np.concatenate(parts, 2)[:, 0] for parts in zip(*taps))
        for n, c in np.ndindex(dx.shape[:2]):
            terms = weights[n] * np.tile(dy[n, c], len(taps))
            dx[n, c] = np.bincount(places[n], terms, dx.shape[2])

    @staticmethod
    def _nowhere(axis: Axis) -> np.ndarray:
        return (axis.value[0][1] == 0) & (axis.value[1][1] == 0)

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.width = bottom[0].shape[3]

    # -- CUDA ------------------------------------------------------------------------------------------------------

    def forward_gpu(self, bottom, top):
        x, positions, y = bottom[0].gpu_data(), bottom[1].gpu_data(), top[0].mutable_gpu_data()
        self.kernel("forward")(top[0].count, *self._geometry(bottom), self.outside, x, positions, y)

    def backward_gpu(self, top, propagate_down, bottom):
        x, positions, dy = bottom[0].gpu_data(), bottom[1].gpu_data(), top[0].gpu_diff()
        if propagate_down[0]:
            self._scatter_gpu(bottom, positions, dy, bottom[0].mutable_gpu_diff())
        if propagate_down[1]:
            places = bottom[1].count // 2
            diff = bottom[1].mutable_gpu_diff()
            self.kernel("slopes")(places, *self._geometry(bottom), x, positions, dy, diff)

    def _scatter_gpu(self, bottom, positions: int, dy: int, dx: int) -> None:
        """Sort the places of the top by where they read, and add for each place of x what belongs to it, in order."""
        samples, _, height, width = bottom[0].shape
        lines, geometry = samples * (height + 1), self._geometry(bottom)
        starts = lines * (width + 3) * _INT
        with ops.scratch(starts + samples * height * width * _INT) as buffer:
            lists = buffer.ptr, buffer.ptr + starts
            self.kernel("sort").launch((lines, 1), 32, *geometry, positions, *lists)
            self.kernel("gather")(bottom[0].count, *geometry, positions, *lists, dy, dx)

    def _geometry(self, bottom) -> tuple[int, ...]:
        return *bottom[0].shape[1:], self.absolute, self.border
