"""Convolution on the device: the product inside Convolution and Deconvolution, and its gradients.

    y[n, o, t] = b[o] + sum over c, j of  w[o, c, j] * x[n, c, t * stride + j * dilation - pad]

All three are matrix products over tiles in shared memory (``gemm.cuh``) without a matrix of copied windows: the
elements of a tile are gathered from the image while it is loaded, by tables (`windows`).

The forward pass and the gradient of the data have a row for each channel of the result and a column for each window,
and sum along the elements of a window. Their kernels differ in the rows of a tile, and in how windows are gathered:

- ``pointwise``: windows of one place, where their results go; they are copied 16 bytes at a time;
- ``channels``: an element of the windows in 16 channels in each step, if the image's channels are a multiple of 16 and
  the tile has few rows, so that gathering is much of the work;
- ``gathered``: any others, in the order of (channel, element), in which weights are neighbours.

The gradient of the weights sums over all windows of the batch (`convolution_weights`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minicaffe.cuda import context, convolution_weights, ops, split, windows
from minicaffe.cuda.convolution_weights import WeightGradient, WeightPlan
from minicaffe.cuda.kernels import Kernel, kernel
from minicaffe.cuda.tables import MOST_AXES, Plans, aligned, with_axes  # noqa: F401  (MOST_AXES: for the layers)
from minicaffe.cuda.windows import Plan

_FEW = 4  # channels of a group up to which tiles would be mostly empty
#: bytes of a number: rows, that is channels: a tile of the products; windows, elements along k in a step, threads
_TILES = {
    4: {64: split.Tile(64, 128, 16, 128), 32: split.Tile(32, 128, 16, 64), 16: split.Tile(16, 256, 16, 64, 260)},
    8: {64: split.Tile(64, 64, 16, 64), 32: split.Tile(32, 128, 16, 64), 16: split.Tile(16, 128, 16, 32)},
}
_KEPT = 16  # plans that a layer keeps, each for other shapes


class CudaCorrelation:
    """The product for one window; all pointers are device addresses of arrays without gaps.

    window: kernel, stride, pad and dilation, tuples of at most MOST_AXES numbers (minicaffe.layers.shared.window).
    group: the number of groups of channels; dtype: float32 or float64.
    x is (N, C, *in), w (O, C / group, *kernel), y (N, O, *out), b (O).
    """

    def __init__(self, window: Any, group: int, dtype: np.dtype) -> None:
        self.window = window.with_axes(MOST_AXES)
        self.group, self.dtype = group, np.dtype(dtype)
        self._gradient = WeightGradient(self.window, group, self.dtype)
        self._plans: Plans[tuple[Plan, Plan, WeightPlan]] = Plans(_KEPT)

    def prepare(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> None:
        """Use these shapes from now on; allocates, so call it only when shapes change."""
        shapes = with_axes(x_shape), with_axes(y_shape)
        self._forward, self._data, self._weights = self._plans.get(shapes, lambda: self._tables(*shapes))

    def _tables(self, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> tuple[Plan, Plan, WeightPlan]:
        forward = windows.forward(self.window, self.group, x_shape, y_shape)
        data = windows.data(self.window, self.group, x_shape, y_shape)
        return forward, data, self._gradient.plan(x_shape, y_shape)

    def forward(self, x: int, w: int, y: int, bias: int = 0, slope: float | None = None, moments: int = 0) -> None:
        """y = w * x, plus bias (O) where one is given; then, with a slope, its ReLU.

        moments: where to put (channels, parts, 2) numbers: the mean of each part of the results for a channel, and the
        sum of their squared deviations from it; `moment_parts` says what a part is.
        """
        self._correlate(self._forward, x, w, bias, y, slope, moments=moments)

    def moment_parts(self) -> tuple[int, int]:
        """The number of parts, and of windows in one; the last may have fewer. Windows count over (N, *out).

        No parts: `forward` does not make moments.
        """
        plan = self._forward
        if plan.channels <= _FEW or len(plan.windows) > 1:
            return 0, 0
        columns = self._tile(plan)[1].columns
        return -(-plan.windows[0] // columns), columns

    def data_gradient(self, dy: int, w: int, dx: int, bias: int = 0, *, mask: int = 0, mask_slope: float = 0.0) -> None:
        """dx = the gradient with respect to x, plus bias (C) where one is given: a Deconvolution's forward pass.

        mask: the top of a ReLU with slope `mask_slope`, of x's shape: dx becomes the gradient of the ReLU's bottom.
        """
        self._correlate(self._data, dy, w, bias, dx, mask=mask, mask_slope=mask_slope)

    def weight_gradient(self, x: int, dy: int, dw: int, db: int = 0) -> None:
        """dw += the gradient with respect to w, and db (O), where one is given, += that of the bias."""
        self._gradient(self._weights, x, dy, dw, db)

    def bias_gradient(self, dy: int, shape: tuple[int, ...], db: int) -> None:
        """db (channels) += the sum of dy (samples, channels, *places) over samples and places."""
        convolution_weights.bias_gradient(dy, shape, db, self.dtype)

    # -- launching -----------------------------------------------------------------------------------------------------

    def _kernel(self, name: str) -> Kernel:
        return kernel("convolution", name, self.dtype)

    def _correlate(
        self,
        plan: Plan,
        image: int,
        w: int,
        bias: int,
        out: int,
        slope: float | None = None,
        mask: int = 0,
        mask_slope: float = 0.0,
        moments: int = 0,
    ) -> None:
        if not sum(plan.windows):
            return
        ends = (bias, slope is not None, slope or 0.0, mask, mask_slope)
        if plan.channels <= _FEW:
            across = min(-(-max(plan.windows) // 256), 4096)
            grid = (across * plan.channels * plan.groups * len(plan.windows), 1)
            self._kernel("correlate_each").launch(grid, 256, across, plan.tables, image, w, *ends, out)
            return
        rows, tile = self._tile(plan)
        wide = plan.adjacent and self._aligned(plan.places, out, mask)
        kind = "gathered"
        if plan.pointwise and self._aligned(plan.places, image):
            kind = "pointwise"
        elif rows == 16 and plan.image_channels % windows.STEP == 0:
            kind = "channels"
        multiply = self._kernel(f"{kind}_{rows}")
        counts = [tile.over(plan.channels, count) * plan.groups for count in plan.windows]
        steps = [tile.steps(depth) for depth in plan.depths]
        work = sum(map(math.prod, zip(counts, steps)))
        most = max(steps)
        processors = context.current().multiprocessors
        share = split.choose(tile, -(-work // most), most, self.dtype.itemsize, processors).share
        blocks, first = -(-work // share), (wide, plan.tables, image, w, *ends, moments)
        if len(steps) == 1 and share % most == 0:
            multiply.launch((blocks, 1), tile.threads, share, *first, 0, 0, out)
            return
        with ops.scratch(2 * blocks * tile.sums(False) * self.dtype.itemsize) as parts:
            multiply.launch((blocks, 1), tile.threads, share, *first, parts, ops.tickets(8 * blocks), out)

    def _aligned(self, places: int, *arrays: int) -> bool:
        """Whether each channel of these arrays begins at a multiple of 16 bytes, and has a multiple of four places."""
        return places % 4 == 0 and aligned(*arrays)

    def _tile(self, plan: Plan) -> tuple[int, split.Tile]:
        """Rows of the smallest tile that has all channels, or of the largest, and the tile."""
        rows = next((rows for rows in (16, 32) if plan.channels <= rows), 64)
        return rows, _TILES[self.dtype.itemsize][rows]
