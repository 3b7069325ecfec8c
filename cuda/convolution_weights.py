"""The gradients of a convolution's weights and bias on the device (``convolution_weights.cu``), with its tables.

    dw[o, c, j] = sum over n, t of  dy[n, o, t] * x[n, c, t * stride + j * dilation - pad],   db[o] = sum of dy[n, o, t]

A product of dy and of the windows' elements: rows are the channels of a group, columns its taps (c, j), and the sum
runs over the windows (n, t) of the batch, which the even split divides among the multiprocessors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from minicaffe.cuda import context, ops
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.split import Tile, choose
from minicaffe.cuda.tables import aligned, divisor, uploaded

_FEW = 4  # channels of a group up to which tiles would be mostly empty
_BITS = 31  # of a window's mask: the planes, rows and columns of a kernel
_WIDTHS = (3, 5)  # widths of kernels that have a variant of their own
#: bytes of a number: rows: the tile
_TILES = {
    4: {16: Tile(16, 192, 16, 32), 32: Tile(32, 96, 16, 32), 64: Tile(64, 96, 16, 64), 128: Tile(128, 96, 16, 128)},
    8: {16: Tile(16, 192, 8, 64), 32: Tile(32, 96, 8, 64), 64: Tile(64, 96, 8, 128), 128: Tile(128, 96, 8, 256)},
}


#: instructions of a thread in a step besides multiplications: reading shared memory, and copying each element
#: of x, by the width of the kernel; 0: 16 bytes at a time
_READING, _COPYING = 216, {0: 0.8, 1: 6.9, 3: 3.7, 5: 3.2}


def tile_of(rows: int, itemsize: int, width: int) -> Tile:
    """The tile of so many rows, with what its steps take; width: as in _COPYING."""
    tile = _TILES[itemsize][rows]
    return tile._replace(copying=_READING + int(_COPYING[width] * tile.columns * tile.depth / tile.threads))


class WeightPlan(NamedTuple):
    """Numbers and device tables for one pair of shapes; the tables hold 32-bit integers."""

    channels: int  # of a group
    taps: int
    groups: int
    windows: int  # of the batch
    places: int  # of a sample
    lines: tuple[int, int, int, int]  # elements of dy's samples and groups, of x's
    size: tuple[int, ...]  # of y
    rows: DeviceBuffer
    columns: DeviceBuffer
    masked: DeviceBuffer | None  # taps with the bits that they need, for the kernels that multiply tiles
    ranges: DeviceBuffer | None  # taps with their ranges of windows, for weights_each


class WeightGradient:
    """The gradients for one window; x is (N, C, D, H, W), y (N, O, D, H, W).

    window: kernel, stride, pad and dilation, with three numbers each.
    """

    def __init__(self, window: Any, group: int, dtype: np.dtype) -> None:
        self.kernel, self.stride, self.pad, self.dilation = window
        self.group, self.dtype = group, np.dtype(dtype)
        #: windows are single elements, one for each of the image
        self.pointwise = math.prod(self.kernel) == 1 and math.prod(self.stride) == 1 and not any(self.pad)
        narrow = self.pointwise or self.dilation[2] != 1 or self.kernel[2] not in _WIDTHS
        self.width = 1 if narrow else self.kernel[2]

    def plan(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> WeightPlan:
        """Make the tables for a pair of shapes."""
        channels, inputs = y_shape[1] // self.group, x_shape[1] // self.group
        size, places = y_shape[2:], math.prod(y_shape[2:])
        elements = math.prod(x_shape[2:])
        lines = (y_shape[1] * places, channels * places, x_shape[1] * elements, inputs * elements)
        tiled = channels > _FEW and sum(self.kernel) <= _BITS
        origins = [[t * s - p for t in range(n)] for n, s, p in zip(size, self.stride, self.pad, strict=True)]
        bits = [self._bits(axis, origins[axis], x_shape[2 + axis]) for axis in range(3)] if tiled else None
        height, width = x_shape[3:]
        rows = [
            [(z * height + y) * width, bits[0][i] | bits[1][j] if bits else 0]
            for (i, z), (j, y) in product(enumerate(origins[0]), enumerate(origins[1]))
        ]
        columns = [[x, bits[2][i] if bits else 0] for i, x in enumerate(origins[2])]
        taps = inputs * math.prod(self.kernel)
        masked, ranges = (self._masked(x_shape), None) if tiled else (None, self._ranges(x_shape, size))
        numbers = (channels, taps, self.group, y_shape[0] * places, places)
        return WeightPlan(*numbers, lines, size, uploaded(rows), uploaded(columns), masked, ranges)

    def __call__(self, plan: WeightPlan, x: Any, dy: Any, dw: Any, db: Any = 0) -> None:
        """Add to dw, and to db where one is given."""
        if not plan.windows:
            return
        divisors = (*divisor(plan.places), *divisor(plan.size[2]))
        numbers = (plan.channels, plan.taps, plan.windows, dy, *plan.lines[:2], x, *plan.lines[2:], *divisors)
        if plan.masked is None:
            weights = plan.groups * plan.channels * plan.taps
            each = kernel("convolution_weights", "weights_each", self.dtype)
            blocks = weights + (plan.groups * plan.channels if db else 0)
            tables = (plan.ranges, plan.rows, plan.columns)
            each.launch((blocks, 1), 256, *numbers, *divisor(plan.size[1]), weights, *tables, dw, db)
            return
        rows, tile, count = self._tile(plan)
        wide = plan.places * self.dtype.itemsize % 16 == 0 and aligned(dy)
        wide = wide and (not self.pointwise or aligned(x))
        whole = plan.taps % 4 == 0 and self._across(tile) % 4 == 0 and aligned(dw)
        flags = (f"-DWIDE_COPIES={str(wide).lower()}", f"-DPLANES={str(self.pointwise).lower()}")
        options = (*flags, f"-DKERNEL_WIDTH={self.width}")
        multiply = kernel("convolution_weights", f"weights_{rows}", self.dtype, options)
        ends = (plan.masked, plan.rows, plan.columns, dw, db, whole)
        ops.launch_split(multiply, tile, count, tile.steps(plan.windows), self.dtype, *numbers, *ends, row_sums=True)

    def _across(self, tile: Tile) -> int:
        """Taps that a tile holds: whole rows of the kernel."""
        return tile.columns // self.width * self.width

    def _tile(self, plan: WeightPlan) -> tuple[int, Tile, int]:
        """The rows of the fastest tile by the model, the tile, and the number of tiles."""
        processors, itemsize = context.current().multiprocessors, self.dtype.itemsize
        width = self.width
        if self.pointwise:
            width = 3 if plan.places * itemsize % 16 else 0  # without bits to test

        def over(tile: Tile) -> int:
            return -(-plan.channels // tile.rows) * -(-plan.taps // self._across(tile)) * plan.groups

        def cycles(tile: Tile) -> float:
            return choose(tile, over(tile), tile.steps(plan.windows), itemsize, processors).cycles

        tiles = {rows: tile_of(rows, itemsize, width) for rows in _TILES[itemsize]}
        best = min(tiles, key=lambda rows: cycles(tiles[rows]))
        return best, tiles[best], over(tiles[best])

    # -- tables --------------------------------------------------------------------------------------------------------

    def _first_bit(self, axis: int) -> int:
        """Bits of columns come first, then those of rows and planes."""
        return sum(self.kernel[axis + 1 :])

    def _bits(self, axis: int, origins: list[int], size: int) -> list[int]:
        """The mask of each window's taps along an axis that are inside."""
        first, reach = self._first_bit(axis), range(self.kernel[axis])
        return [sum(1 << first + j for j in reach if 0 <= o + j * self.dilation[axis] < size) for o in origins]

    def _places(self, x_shape: tuple[int, ...], steps: Sequence[range]) -> list[tuple[int, tuple[int, ...]]]:
        """Of each tap its distance from a window's first element, and its place in the kernel."""
        (depth, height, width), (dz, dy, dx) = x_shape[2:], self.dilation
        return [
            (((channel * depth + z * dz) * height + y * dy) * width + x * dx, (z, y, x))
            for channel, z, y, x in product(range(x_shape[1] // self.group), *steps)
        ]

    def _masked(self, x_shape: tuple[int, ...]) -> DeviceBuffer:
        steps = [range(k) for k in self.kernel]
        if self.width > 1:  # a row of taps has one entry, with which kernels combine the bits of columns
            steps[2] = range(1)
        axes = range(2 if self.width > 1 else 3)
        return uploaded(
            [[to, sum(1 << self._first_bit(a) + place[a] for a in axes)] for to, place in self._places(x_shape, steps)]
        )

    def _ranges(self, x_shape: tuple[int, ...], size: tuple[int, ...]) -> DeviceBuffer:
        def limits(axis: int, j: int) -> tuple[int, int]:
            to = j * self.dilation[axis] - self.pad[axis]  # of the first window
            return -(to // self.stride[axis]), min((x_shape[2 + axis] - 1 - to) // self.stride[axis], size[axis] - 1)

        return uploaded(
            [
                [to, *(limit for axis in range(3) for limit in limits(axis, place[axis])), 0]
                for to, place in self._places(x_shape, [range(k) for k in self.kernel])
            ]
        )


def bias_gradient(dy: Any, shape: tuple[int, ...], db: Any, dtype: np.dtype) -> None:
    """db (channels) += the sum of dy (samples, channels, *places) over samples and places."""
    channels, places = shape[1], math.prod(shape[2:])
    windows = shape[0] * places
    if not windows or not channels:
        return
    slices = max(1, min(-(-2 * context.current().multiprocessors // channels), windows // 1024))
    share = -(-windows // slices)
    slices = -(-windows // share)
    with ops.scratch(slices * channels * dtype.itemsize) as parts:
        sums = kernel("convolution_weights", "bias_gradient", dtype)
        numbers = (windows, slices, share, *divisor(places), channels * places)
        sums.launch((channels * slices, 1), 256, *numbers, dy, parts, ops.tickets(channels), db)
