"""Convolution on the device: the product inside Convolution and Deconvolution, and its gradients.

    y[n, o, t] = b[o] + sum over c, j of  w[o, c, j] * x[n, c, t * stride + j * dilation - pad]

All three are matrix products over tiles in shared memory (``gemm.cuh``) without a matrix of copied windows: the
elements of a tile are gathered from the image while it is loaded. The kernels read small tables, which are made here:

- *taps*, the elements of a window: the distance from the window's origin in memory and along each axis, and the index
  of the weight;
- *phases*. A forward pass has one. In the gradient of the data only those taps contribute to a place of x whose
  distance has the same remainder modulo the stride, so there is one phase for each remainder, with its own taps and its
  own lattice of places, and no product with a zero is computed.

The gradient of the weights sums over all windows of the batch. To occupy all multiprocessors the windows are divided
into slices, each summed by separate blocks into a separate matrix; the matrices are then added in a fixed order, so
results are the same in every run.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from minicaffe.cuda import context, ops
from minicaffe.cuda.kernels import Kernel, kernel
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.errors import DeviceError

MOST_AXES = 3  # spatial axes that the kernels support
_FEW = 4  # channels of a group up to which tiles would be mostly empty
_COLUMNS = {128: 128, 64: 128, 32: 256}  # rows, that is channels: windows, in a tile of `correlate_*`
_WEIGHTS_TILES = {128: (128, 8), 64: (64, 16), 32: (128, 16)}  # rows: (columns, depth) of a tile of `weights_*`
_SHARE, _MOST_SHARES = 128, 8  # taps that a share has at least; the largest number of shares
_MOST = (1 << 31) - 1  # windows, and numbers of a sample: kernels index them with 32 bits
_REACH = (1 << 15) - 1  # planes and rows from the first element of a window to the last: 16 bits of a tap
_KEPT = 16  # plans that a layer keeps, each for other shapes


class Tables(NamedTuple):
    """Device tables of one direction for one pair of shapes, and their sizes."""

    geometry: DeviceBuffer
    phases: DeviceBuffer
    taps: DeviceBuffer
    groups: int
    channels: int  # of a group of the result
    num_phases: int
    num_taps: int
    depth: int  # taps of the largest phase
    windows: int  # of the largest phase, over all samples
    places: int  # of a channel of the result
    count: int  # type: ignore[assignment]  # of the whole result; hides tuple.count


class CudaCorrelation:
    """The product for one window; all pointers are device addresses of arrays without gaps.

    window: kernel, stride, pad and dilation, tuples of at most MOST_AXES numbers (minicaffe.layers.shared.window).
    group: the number of groups of channels; dtype: float32 or float64.
    x is (N, C, *in), w (O, C / group, *kernel), y (N, O, *out), b (O).
    """

    def __init__(self, window: Any, group: int, dtype: np.dtype) -> None:
        self.kernel, self.stride, self.pad, self.dilation = window.with_axes(MOST_AXES)
        self.group, self.dtype = group, np.dtype(dtype)
        self._plans: dict[tuple, tuple[Tables, Tables]] = {}

    def prepare(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> None:
        """Use these shapes from now on; allocates, so call it only when shapes change."""
        lead = (1,) * (MOST_AXES + 2 - len(x_shape))
        shapes = (*x_shape[:2], *lead, *x_shape[2:]), (*y_shape[:2], *lead, *y_shape[2:])
        if shapes not in self._plans:
            reach = max((k - 1) * d for k, d in zip(self.kernel[:-1], self.dilation, strict=False))
            _check("rows or planes from one end of a window to the other", reach, _REACH)
            if len(self._plans) >= _KEPT:
                self._plans.clear()
            self._plans[shapes] = self._plan_forward(*shapes), self._plan_data(*shapes)
        self._forward, self._data = self._plans[shapes]

    def forward(self, x: int, w: int, y: int, bias: int = 0, slope: float | None = None) -> None:
        """y = w * x, plus bias (O) where one is given; then, with a slope, its ReLU."""
        self._correlate(self._forward, x, w, bias, y, slope)

    def data_gradient(self, dy: int, w: int, dx: int, bias: int = 0) -> None:
        """dx = the gradient with respect to x, plus bias (C) where one is given: a Deconvolution's forward pass."""
        self._correlate(self._data, dy, w, bias, dx)

    def weight_gradient(self, x: int, dy: int, dw: int) -> None:
        """dw += the gradient with respect to w."""
        plan = self._forward
        if not plan.windows:
            return
        tables = (plan.geometry, plan.phases, plan.taps)
        if plan.channels <= _FEW:
            grid = (plan.num_taps * plan.channels * plan.groups, 1)
            self._kernel("weights_each").launch(grid, 256, *tables, x, dy, dw)
            return
        rows = 32 if plan.channels <= 32 else 64 if min(plan.channels, plan.num_taps) <= 64 else 128
        columns, depth = _WEIGHTS_TILES[rows]
        tiles = -(-plan.num_taps // columns) * -(-plan.channels // rows) * plan.groups
        slices, length = self._slices(plan.windows, tiles, 16 * depth)
        count = plan.groups * plan.channels * plan.num_taps
        with ops.scratch(slices * count * self.dtype.itemsize) as partial:
            self._kernel(f"weights_{rows}").launch((tiles * slices, 1), 256, slices, length, *tables, x, dy, partial)
            self._kernel("add_slices")(count, slices, partial, dw)

    def bias_gradient(self, dy: int, shape: tuple[int, ...], db: int) -> None:
        """db (channels) += the sum of dy (samples, channels, *places) over samples and places."""
        samples, channels, places = shape[0], shape[1], math.prod(shape[2:])
        if samples:
            slices, length = self._slices(samples, channels, 1)
            sums = self._kernel("bias_slices")
            with ops.scratch(slices * channels * self.dtype.itemsize) as partial:
                sums.launch((channels, slices), 256, samples, channels, places, length, dy, partial)
                self._kernel("add_slices")(channels, slices, partial, db)

    # -- launching -----------------------------------------------------------------------------------------------------

    def _kernel(self, name: str) -> Kernel:
        return kernel("convolution", name, self.dtype)

    def _correlate(self, plan: Tables, image: int, w: int, bias: int, out: int, slope: float | None = None) -> None:
        if not plan.windows:
            return
        tables, ends = (plan.geometry, plan.phases, plan.taps), (bias, slope is not None, slope or 0.0)
        lots = plan.groups * plan.num_phases
        if plan.channels <= _FEW:
            across = min(-(-plan.windows // 256), 4096)
            grid = (across * plan.channels * lots, 1)
            self._kernel("correlate_each").launch(grid, 256, across, *tables, image, w, *ends, out)
            return
        rows, shares = self._tile(plan, lots)
        across = -(-plan.windows // _COLUMNS[rows])
        grid = (across * -(-plan.channels // rows) * lots * shares, 1)
        multiply = self._kernel(f"correlate_{rows}")
        if shares == 1:
            multiply.launch(grid, 256, across, 1, *tables, image, w, *ends, out)
        else:
            channels = plan.groups * plan.channels
            with ops.scratch(shares * plan.count * self.dtype.itemsize) as partial:
                multiply.launch(grid, 256, across, shares, *tables, image, w, 0, False, 0.0, partial)
                self._kernel("finish")(plan.count, shares, channels, plan.places, partial, *ends, out)

    def _tile(self, plan: Tables, lots: int) -> tuple[int, int]:
        """Rows of the tile, and the number of shares of the taps.

        The tile is the largest that is at least half full and gives every multiprocessor a block; shares give it two.
        """
        processors = context.current().multiprocessors
        most = max(1, min(_MOST_SHARES, plan.depth // _SHARE))
        for rows in (128, 64, 32) if self.dtype == np.float32 else (64, 32):
            blocks = -(-plan.channels // rows) * -(-plan.windows // _COLUMNS[rows]) * lots
            if rows == 32 or (plan.channels > rows // 2 and blocks * most >= processors):
                break
        return rows, max(1, min(most, 2 * processors // blocks)) if blocks < processors else 1

    @staticmethod
    def _slices(count: int, blocks: int, least: int) -> tuple[int, int]:
        """The number of slices of `count` and their length: about two blocks for each multiprocessor.

        blocks: the number of blocks for one slice; least: lengths are multiples of it.
        """
        wanted = -(-2 * context.current().multiprocessors // blocks)
        slices = max(1, min(wanted, count // least))
        length = -(-count // slices // least) * least
        return -(-count // length), length

    # -- tables --------------------------------------------------------------------------------------------------------

    def _plan_forward(self, x_shape: tuple, y_shape: tuple) -> Tables:
        channels, size = x_shape[1] // self.group, x_shape[2:]
        steps = [[j * d for j in range(k)] for k, d in zip(self.kernel, self.dilation, strict=True)]
        taps = [_tap(channel, offset, size, i) for i, (channel, *offset) in enumerate(product(range(channels), *steps))]
        phase = [0, len(taps), *y_shape[2:], *(-p for p in self.pad), *self.stride, 0, 0, 0]
        weights = len(taps), len(taps) * (y_shape[1] // self.group)
        return self._upload(x_shape, y_shape, (1, 1, 1), [phase], taps, weights)

    def _plan_data(self, x_shape: tuple, y_shape: tuple) -> Tables:
        outputs, channels, size = y_shape[1] // self.group, x_shape[1] // self.group, y_shape[2:]
        elements = math.prod(self.kernel)
        taps: list[list[int]] = []
        phases = []
        for axes in product(*(self._remainders(axis, x_shape[2 + axis]) for axis in range(MOST_AXES))):
            begin = len(taps)
            for channel, steps in product(range(outputs), list(product(*(axis.taps for axis in axes)))):
                index = np.ravel_multi_index([j for j, _ in steps], self.kernel)
                taps.append(_tap(channel, [d for _, d in steps], size, channel * channels * elements + int(index)))
            count, origin, first = ([getattr(a, f) for a in axes] for f in ("count", "origin", "first"))
            phases.append([begin, len(taps) - begin, *count, *origin, 1, 1, 1, *first])
        weights = elements, channels * outputs * elements
        return self._upload(y_shape, x_shape, self.stride, phases, taps, weights)

    def _remainders(self, axis: int, size: int) -> list[_Remainder]:
        """The phases along one axis of x that are not empty."""
        kernel, stride, pad, dilation = (f[axis] for f in (self.kernel, self.stride, self.pad, self.dilation))
        found = []
        for remainder in range(stride):
            first = (remainder - pad) % stride  # the smallest place i with (i + pad) % stride == remainder
            taps = [
                (j, (remainder - j * dilation) // stride)
                for j in range(kernel)
                if (j * dilation - remainder) % stride == 0
            ]
            if first < size:
                found.append(_Remainder(taps, -(-(size - first) // stride), (first + pad - remainder) // stride, first))
        return found

    def _upload(self, in_shape, out_shape, out_step, phases, taps, weights) -> Tables:
        """Copy the tables to the device; `in_shape` is that of the array that is read, `out_shape` of the result."""
        channels_in, channels_out = in_shape[1] // self.group, out_shape[1] // self.group
        geometry = [in_shape[0], self.group, len(phases), channels_in, *in_shape[2:], channels_out, *out_shape[2:]]
        windows = max((math.prod(p[2:5]) for p in phases), default=0) * in_shape[0]
        _check("windows in a batch", windows)
        _check("numbers in a sample", max(math.prod(in_shape[1:]), math.prod(out_shape[1:])))
        depth, places = max((p[1] for p in phases), default=0), math.prod(out_shape[2:])
        tables = (_table([*geometry, *out_step, *weights]), _table(phases), _table(taps))
        sizes = (len(phases), len(taps), depth, windows, places, math.prod(out_shape))
        return Tables(*tables, self.group, channels_out, *sizes)


class _Remainder(NamedTuple):
    """Places along an axis of x whose distance to a window's origin has one remainder modulo the stride."""

    taps: list[tuple[int, int]]  # elements of the kernel, and the distances of their windows (negative: before)
    count: int  # type: ignore[assignment]  # hides tuple.count
    origin: int  # the window at distance 0 of the first place
    first: int


def _check(what: str, count: int, most: int = _MOST) -> None:
    if count > most:
        raise DeviceError(f"convolution on the GPU: expected at most {most} {what}, got {count}")


def _tap(channel: int, offset: Any, size: tuple, weight: int) -> list[int]:
    dz, dy, dx = offset
    return [((channel * size[0] + dz) * size[1] + dy) * size[2] + dx, weight, dz << 16 | dy & 0xFFFF, dx]


def _table(rows: list) -> DeviceBuffer:
    array = np.array(rows, np.int32)
    buffer = DeviceBuffer(array.nbytes)
    buffer.from_host(array)
    return buffer
