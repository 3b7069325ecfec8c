"""Convolution by tensor cores, over arrays with channels last: the product inside Convolution, and its gradients.

    y[n, t, o] = b[o] + sum over j, c of  w[o, c, j] * x[n, t * stride + j * dilation - pad, c]

Arrays are (samples, places, channels) with the channels padded with zeros to a multiple of 8, in bfloat16, or in
float32 that the kernels round to TF32; sums are float32. Each of the three products is a product of matrices that are
never stored (``tensor.cuh``): k runs over elements of the kernel and channels, and chunks of 16 bytes are copied from
the image into the tiles asynchronously. All that the kernels know about the window is in tables, which are made here:

- *origins*: for each window (a row of the product) the distance of its origin from the array's beginning, and a bit for
  each element of the kernel along each axis, set where that element is outside the image;
- *taps*: for each chunk of k its distance from the origin, and the bits of its element;
- *phases*: a forward pass has one. In the gradient of the data only those elements of the kernel contribute to a place
  of x whose distance has the same remainder modulo the stride: there is one phase for each remainder, with its taps.

In the gradient of the weights the windows are what is summed over, and the taps are columns; the gradient of the bias
is a column of ones among them. Where the tiles of a product do not occupy all multiprocessors, its k is divided into
shares, which the last block of a tile adds in a fixed order.
"""

from __future__ import annotations

import math
import os
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from minicaffe.cuda import context, ops
from minicaffe.cuda.kernels import Kernel, kernel
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.shares import Tile
from minicaffe.cuda.tables import MOST_AXES, Plans, uploaded, with_axes
from minicaffe.errors import DeviceError

PADDED = 8  # channels of an array are padded to a multiple
_MOST = (1 << 31) - 1  # chunks, windows: kernels index them with 32 bits
_BITS = 30  # elements of a kernel, summed over the axes; the other bits of a word mark what does not exist
_NOTHING = -(1 << 31)  # the bit that is set in the origins of all windows: taps that have it read zeros
_KEPT = 16  # plans that a layer keeps, each for other shapes
_STEP = 8  # chunks of k in a step
_LITTLE_SHARED = ("sm_86", "sm_89", "sm_120", "sm_121")  # a block has 99 KB at most: too little for tiles of 32 x 256
_WINDOWS = 128  # rows of a tile of `correlate_*`


class _Axis(NamedTuple):
    """One axis of a phase: where its windows begin in the array that is read, its elements, where results go."""

    origins: np.ndarray
    elements: list[tuple[int, int]]  # an index of the kernel, and the distance from the origin
    outs: np.ndarray


class Tables(NamedTuple):
    """Device tables of one direction for one pair of shapes, and their sizes; chunks are of 16 bytes."""

    phase: DeviceBuffer
    taps: DeviceBuffer
    sources: DeviceBuffer
    origins: DeviceBuffer
    outs: DeviceBuffer | None
    phases: int
    rows: int  # tiles of windows
    windows: int  # of all phases
    chunks: int  # of k, in the first phase
    steps: int  # of all phases, in which packed weights are counted
    deepest: int  # steps of the largest phase
    columns: int  # channels of a group of the result
    padded: int  # the same, padded to whole tiles
    in_group: int  # chunks of a group of the array that is read
    out_group: int
    out_row: int  # chunks of a place of the result


class TensorCorrelation:
    """The product for one window; all pointers are device addresses of arrays without gaps.

    window: kernel, stride, pad and dilation, tuples of at most MOST_AXES numbers (minicaffe.layers.shared.window).
    group: the number of groups of channels; math: "bf16" or "tf32", which determines the elements of x, y and packed
    weights. Shapes are those of the blobs: (N, C, *in) and (N, O, *out); w is (O, C / group, *kernel) in float32.
    """

    def __init__(self, window: Any, group: int, math: str) -> None:
        self.kernel, self.stride, self.pad, self.dilation = window.with_axes(MOST_AXES)
        self.group, self.math = group, math
        self.chunk = 8 if math == "bf16" else 4  # elements
        self._plans: Plans[tuple[Tables, Tables]] = Plans(_KEPT)

    @staticmethod
    def unfit(window: Any, group: int, channels: int, outputs: int) -> str:
        """Why this class does not compute a product, in a sentence; '' if it does. Channels are those of all groups."""
        axes = len(window.kernel)
        if axes > MOST_AXES:
            return f"tensor cores: expected at most {MOST_AXES} spatial axes, got {axes}"
        if group > 1 and (channels // group % PADDED or outputs // group % PADDED):
            sizes = f"{channels // group} and {outputs // group}"
            return f"tensor cores: expected groups of a multiple of {PADDED} channels, got {sizes}"
        elements = sum(window.kernel) + MOST_AXES - axes
        if elements > _BITS:
            return f"tensor cores: expected a kernel of at most {_BITS} elements, added over its axes, got {elements}"
        return ""

    def prepare(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> None:
        """Use these shapes from now on; allocates, so call it only when shapes change."""
        shapes = with_axes(x_shape), with_axes(y_shape)
        self._forward, self._data = self._plans.get(shapes, lambda: self._plan(*shapes))
        self._channels, self._outputs = x_shape[1] // self.group, y_shape[1] // self.group

    @property
    def packed_bytes(self) -> int:
        """The size of packed weights."""
        return 16 * sum(self._packed_chunks(plan) for plan in (self._forward, self._data))

    def pack(self, w: int, packed: int) -> None:
        """Arrange and round weights as `forward` and `data_gradient` read them; needed again when w has changed."""
        forward, data = self._forward, self._data
        chunks = self._packed_chunks(forward)
        sizes = (self._outputs, self._channels, math.prod(self.kernel))
        tables = (forward.steps, forward.padded, forward.sources, data.steps, data.padded, data.sources)
        self._kernel("pack")(chunks + self._packed_chunks(data), chunks, *sizes, *tables, w, packed)

    def forward(self, x: int, packed: int, y: int, bias: int = 0, slope: float | None = None, moments: int = 0) -> None:
        """y = w * x, plus bias (O, float32) where one is given; then, with a slope, its ReLU.

        moments: where given, receives float32 (O, parts, 2), the mean and the sum of squared deviations of y as it is
            stored, for parts of `moment_parts()` windows; not together with a slope.
        """
        self._correlate(self._forward, x, packed, bias, y, slope, moments)

    def moment_parts(self) -> tuple[int, int]:
        """The number of parts, and the windows of a part; the last one may have fewer."""
        return self._forward.rows, _WINDOWS

    def data_gradient(self, dy: int, packed: int, dx: int, bias: int = 0) -> None:
        """dx = the gradient with respect to x, plus bias (C) where one is given: a Deconvolution's forward pass."""
        self._correlate(self._data, dy, int(packed) + 16 * self._packed_chunks(self._forward), bias, dx)

    def weight_gradient(self, x: int, dy: int, dw: int, db: int = 0) -> None:
        """dw (float32, as w) += the gradient with respect to w; db (O, float32) += that of the bias, where given."""
        plan = self._forward
        if not plan.windows:
            return
        least = 64 if context.current().arch in _LITTLE_SHARED else 32
        size = max(least, 32 if self._outputs <= 32 else 64 if self._outputs <= 64 else 128)
        tile = {128: Tile(128, 128, 2), 64: Tile(64, 128, 3), 32: Tile(32, 256, 2)}[size]
        columns = -(-(plan.chunks * self.chunk + (1 if db else 0)) // tile.columns)
        grid = (columns, -(-self._outputs // size), self.group)
        steps = -(-plan.windows // (_STEP * self.chunk))
        sizes = (plan.windows, plan.chunks, plan.in_group, plan.out_row, plan.out_group, self._outputs, self._channels)
        tables = (math.prod(self.kernel), plan.taps, plan.sources, plan.origins)
        multiply = self._kernel(f"weights_{size}x{tile.columns}")
        ops.launch_shares(multiply, tile, grid, steps, (*sizes, *tables), (x, dy, dw, db))

    # -- launching -----------------------------------------------------------------------------------------------------

    def _kernel(self, name: str) -> Kernel:
        return kernel("tensor_convolution", name, np.float32, self.options())

    def options(self) -> tuple[str, ...]:
        """The compiler's arguments. Devices of sm_90 multiply bfloat16 by four warps together (`MINICAFFE_WGMMA`)."""
        if self.math != "bf16":
            return ()
        together = context.current().arch == "sm_90" and os.environ.get("MINICAFFE_WGMMA") != "0"
        return ("-DBF16", "-DWGMMA") if together else ("-DBF16",)

    def _correlate(
        self, plan: Tables, image: int, w: int, bias: int, out: int, slope: float | None = None, moments: int = 0
    ) -> None:
        if not plan.windows:
            return
        size = min(plan.padded, 128)
        grid = (plan.padded // size, plan.rows, self.group)
        sizes = (plan.phases, plan.windows, plan.in_group, plan.padded, plan.steps, plan.out_group, plan.out_row)
        tables = (plan.columns, plan.phase, plan.taps, plan.origins, plan.outs or 0)
        ends = (image, w, bias, slope is not None, slope or 0.0, moments, plan.rows, out)
        tile = Tile(_WINDOWS, size, 2 if size == 128 else 3)
        multiply = self._kernel(f"correlate_{size}x{_WINDOWS}")
        ops.launch_shares(multiply, tile, grid, plan.deepest, (*sizes, *tables), ends)

    # -- tables --------------------------------------------------------------------------------------------------------

    def _row(self, channels: int) -> int:
        """The chunks of a place, of all groups."""
        return -(-channels // PADDED) * PADDED // self.chunk

    def _packed_chunks(self, plan: Tables) -> int:
        return self.group * plan.steps * plan.padded * _STEP

    def _plan(self, x_shape: tuple, y_shape: tuple) -> tuple[Tables, Tables]:
        for shape in (x_shape, y_shape):
            _check("chunks of 16 bytes in an array", self._row(shape[1]) * shape[0] * math.prod(shape[2:]))
        return self._plan_forward(x_shape, y_shape), self._plan_data(x_shape, y_shape)

    def _plan_forward(self, x_shape: tuple, y_shape: tuple) -> Tables:
        axes = []
        for i, size in enumerate(y_shape[2:]):
            outs = np.arange(size)
            elements = [(j, j * self.dilation[i]) for j in range(self.kernel[i])]
            axes.append(_Axis(outs * self.stride[i] - self.pad[i], elements, outs))
        return self._upload(x_shape, y_shape, [axes])

    def _plan_data(self, x_shape: tuple, y_shape: tuple) -> Tables:
        axes = [self._remainders(i, x_shape[2 + i]) for i in range(MOST_AXES)]
        return self._upload(y_shape, x_shape, [list(phase) for phase in product(*axes)])

    def _remainders(self, i: int, size: int) -> list[_Axis]:
        """The phases along one axis of x that are not empty."""
        kernel, stride, pad, dilation = (f[i] for f in (self.kernel, self.stride, self.pad, self.dilation))
        found = []
        for remainder in range(stride):
            outs = np.arange((remainder - pad) % stride, size, stride)  # places with (out + pad) % stride == remainder
            elements = [
                (j, (remainder - j * dilation) // stride)
                for j in range(kernel)
                if (j * dilation - remainder) % stride == 0
            ]
            if outs.size:
                found.append(_Axis((outs + pad - remainder) // stride, elements, outs))
        return found

    def _upload(self, in_shape: tuple, out_shape: tuple, phases: list[list[_Axis]]) -> Tables:
        """Make the tables; `in_shape` is that of the array that is read, `out_shape` that of the result."""
        row, each = self._row(in_shape[1]), self._row(in_shape[1]) // self.group
        phase, taps, sources, origins, outs = [], [], [], [], []
        tiles = steps = 0
        for axes in phases:
            found, where = self._taps(axes, in_shape[2:], row, each)
            length = -(-len(found) // _STEP)
            phase.append((tiles, steps, length, 0))
            taps.append(_filled(found, length * _STEP, (0, _NOTHING)))
            sources.append(_filled(where, length * _STEP, (-1, 0)))
            windows = self._origins(axes, in_shape, row)
            tiles, steps = tiles + -(-len(windows) // _WINDOWS), steps + length
            origins.append(_filled(windows, -(-len(windows) // _WINDOWS) * _WINDOWS, (0, -1)))
            places = _places([axis.outs for axis in axes], out_shape).reshape(-1, 1)
            outs.append(_filled(places, len(origins[-1]), (-1,)))
        chunks = len(found) if len(phases) == 1 else 0
        columns = out_shape[1] // self.group
        width = 32 if columns <= 32 else 64 if columns <= 64 else 128
        phase.append((tiles, steps, 0, 0))
        taps.append(_filled([], _STEP, (0, _NOTHING)))  # read ahead
        origins.append(_filled([], _WINDOWS, (0, -1)))
        parts = [np.array(phase)], taps, sources, origins
        tables = [uploaded(np.concatenate(part)) for part in parts]
        return Tables(
            tables[0], tables[1], tables[2], tables[3], uploaded(np.concatenate(outs)) if len(phases) > 1 else None,
            phases=len(phases), rows=tiles, windows=out_shape[0] * math.prod(out_shape[2:]), chunks=chunks, steps=steps,
            deepest=max(p[2] for p in phase), columns=columns, padded=-(-columns // width) * width, in_group=each,
            out_group=self._row(out_shape[1]) // self.group, out_row=self._row(out_shape[1]),
        )  # fmt: skip

    def _taps(self, axes: list[_Axis], size: tuple, row: int, each: int) -> tuple[list, list]:
        """The distance and the bits of each chunk of k, and its weight: an element of the kernel and a channel."""
        taps, sources = [], []
        lengths = [len(axis.elements) for axis in axes]
        firsts = np.cumsum([0, *lengths])
        for numbers in product(*map(range, lengths)):
            index, offset = zip(*(axis.elements[i] for axis, i in zip(axes, numbers)))
            element = int(np.ravel_multi_index(index, self.kernel))
            bits = sum(1 << int(first) + i for first, i in zip(firsts, numbers))
            distance = ((offset[0] * size[1] + offset[1]) * size[2] + offset[2]) * row
            taps += [(distance + chunk, bits) for chunk in range(each)]
            sources += [(element, chunk * self.chunk) for chunk in range(each)]
        return taps, sources

    @staticmethod
    def _origins(axes: list[_Axis], in_shape: tuple, row: int) -> np.ndarray:
        """The distance of each window's origin in chunks, and the bits of the elements that are outside."""
        distances = _places([axis.origins for axis in axes], in_shape) * row
        bits, first = np.full((1, 1, 1), _NOTHING), 0
        for i, axis in enumerate(axes):
            outside = np.zeros(len(axis.origins), np.int64)
            for _, offset in axis.elements:
                at = axis.origins + offset
                outside |= ((at < 0) | (at >= in_shape[2 + i])).astype(np.int64) << first
                first += 1
            bits = bits | outside.reshape([-1 if i == j else 1 for j in range(MOST_AXES)])
        bits = np.broadcast_to(bits, (in_shape[0], *bits.shape))
        return np.stack([distances.reshape(-1), bits.reshape(-1)], axis=1)


def _places(axes: list[np.ndarray], shape: tuple) -> np.ndarray:
    """The numbers of places (n, z, y, x) of an array of this shape, for all n and the given z, y and x."""
    z, y, x = np.ix_(*axes)
    one = (z * shape[3] + y) * shape[4] + x
    return np.arange(shape[0]).reshape(-1, 1, 1, 1) * math.prod(shape[2:]) + one


def _filled(rows: Any, count: int, row: tuple) -> np.ndarray:
    """`rows`, followed by as many copies of `row` as make them `count` rows."""
    table = np.full((count, len(row)), row, np.int64)
    if len(rows):
        table[: len(rows)] = rows
    return table


def _check(what: str, count: int) -> None:
    if count > _MOST:
        raise DeviceError(f"convolution by tensor cores: expected at most {_MOST} {what}, got {count}")
