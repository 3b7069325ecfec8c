"""Correlation: how well patches of one picture fit those of another, for a range of displacements."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.proto.caffe_pb2 import CorrelationParameter


@register("Correlation")
class Correlation(Layer):
    """y_d(p) = mean of a_c(q) b_c(q + d) over the C channels and the places q of the patch at p.

    Displacements d are multiples of stride_2 up to max_displacement, row by row: with R = max_displacement / stride_2
    rounded down, channel (i + R) (2 R + 1) + j + R of the top has d = stride_2 (i, j).  Both bottoms are continued by
    zeros; places p are stride_1 apart, so that H' = (H + 2 pad - 2 (max_displacement + kernel_size / 2)) / stride_1,
    kernel_size / 2 rounded down, the whole up.

    bottoms: a and b, (N, C, H, W), both with a gradient; top: (N, (2 R + 1)^2, H', W')

    correlation_param: kernel_size (odd) and max_displacement, required; pad (0), stride_1 (1), stride_2 (1),
        correlation_type (MULTIPLY; SUBTRACT: the mean of |a - b|, where a = b with the gradient of a - b).
    Source: Dosovitskiy et al., FlowNet, 2015.
    """

    fork = "FlowNet 2.0"
    exact_num_bottom = 2
    exact_num_top = 1
    in_place = False
    backward_reads = ("bottom",)
    moved = (True, True)  #: whether there are displacements of rows, of columns

    def setup(self, bottom, top):
        self.param = param = self.layer_param.correlation_param
        for field in ("kernel_size", "max_displacement"):
            if not param.HasField(field):
                raise self.error(f"correlation_param needs {field}")
        if param.kernel_size % 2 == 0:
            raise self.error(f"kernel_size must be odd, got {param.kernel_size}")
        if not (param.stride_1 and param.stride_2):
            raise self.error("stride_1 and stride_2 must be at least 1")
        self.kernel_size, self.stride = param.kernel_size, param.stride_1
        self.subtract = param.correlation_type == CorrelationParameter.SUBTRACT
        self.steps = self.displacements()  # of rows, of columns
        self.pads = [param.pad * moved for moved in self.moved]
        self.borders = [param.max_displacement * moved for moved in self.moved]

    def displacements(self) -> list[range]:
        """The displacements of rows and of columns."""
        step = self.param.stride_2
        most = self.param.max_displacement // step * step
        return [range(-most, most + 1, step)] * 2

    def top_shapes(self, bottom_shapes):
        a, b = bottom_shapes
        if len(a) != 4 or a != b or not a[1]:
            raise self.error(f"bottoms must be two blobs (N, C, H, W) of one shape, with channels, got {a} and {b}")
        sizes = []
        for size, pad, border in zip(a[2:], self.pads, self.borders):
            room = size + 2 * pad - 2 * border - self.kernel_size + 1
            if room < 1:
                raise self.error(f"displacements and patches leave no place of bottoms of shape {a}; more pad may help")
            sizes.append(-(-room // self.stride))
        return [(a[0], len(self.steps[0]) * len(self.steps[1]), *sizes)]

    # -- numpy -----------------------------------------------------------------------------------------------------

    def forward_cpu(self, bottom, top):
        a, b = (self._padded(blob.read_data()) for blob in bottom)
        y = top[0].data
        y[...] = 0
        for channel, here, there in self._pairs(top[0].shape):
            if self.subtract:
                y[:, channel] += np.abs(a[here] - b[there]).sum(1)
            else:
                y[:, channel] += np.einsum("nchw,nchw->nhw", a[here], b[there])
        y /= self._terms(bottom)

    def backward_cpu(self, top, propagate_down, bottom):
        if not any(propagate_down):
            return
        a, b = (self._padded(blob.read_data()) for blob in bottom)
        dy = top[0].read_diff() / self.dtype.type(self._terms(bottom))
        da, db = np.zeros_like(a), np.zeros_like(b)
        for channel, here, there in self._pairs(top[0].shape):
            slope = dy[:, channel, None]
            if self.subtract:
                slope = np.where(a[here] >= b[there], slope, -slope)
            if propagate_down[0]:
                da[here] += slope if self.subtract else slope * b[there]
            if propagate_down[1]:
                db[there] += -slope if self.subtract else slope * a[here]
        for blob, wanted, diff in zip(bottom, propagate_down, (da, db)):
            if wanted:
                blob.diff[...] = diff[self._inside(blob.shape)]

    def _margins(self) -> list[int]:
        """How many zeros are around the rows and columns: pad, and what displacements need beyond it."""
        beyond = (max(0, -min(steps) - border, max(steps) - border) for steps, border in zip(self.steps, self.borders))
        return [pad + more for pad, more in zip(self.pads, beyond)]

    def _padded(self, x: np.ndarray) -> np.ndarray:
        rows, columns = self._margins()
        return np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)))

    def _inside(self, shape) -> tuple:
        """The index of the bottom in `_padded`."""
        return (..., *(slice(margin, margin + size) for margin, size in zip(self._margins(), shape[2:])))

    def _pairs(self, shape) -> Iterator[tuple[int, tuple, tuple]]:
        """Yield for each place of a patch and each channel of the top the channel, and the places of a and of b."""
        starts = [margin - pad + border for margin, pad, border in zip(self._margins(), self.pads, self.borders)]
        for tap in itertools.product(range(self.kernel_size), repeat=2):
            first = [start + t for start, t in zip(starts, tap)]
            for channel, step in enumerate(itertools.product(*self.steps)):
                yield channel, self._grid(first, shape), self._grid([f + s for f, s in zip(first, step)], shape)

    def _grid(self, first, shape) -> tuple:
        return (..., *(slice(f, f + (n - 1) * self.stride + 1, self.stride) for f, n in zip(first, shape[2:])))

    def _terms(self, bottom) -> int:
        return self.kernel_size**2 * bottom[0].shape[1]

    # -- CUDA ------------------------------------------------------------------------------------------------------

    def forward_gpu(self, bottom, top):
        a, b, y = bottom[0].gpu_data(), bottom[1].gpu_data(), top[0].mutable_gpu_data()
        self.kernel("forward")(top[0].count, *self._geometry(bottom, top), a, b, y)

    def backward_gpu(self, top, propagate_down, bottom):
        for side, (blob, wanted) in enumerate(zip(bottom, propagate_down)):
            if wanted:
                a, b, dy = bottom[0].gpu_data(), bottom[1].gpu_data(), top[0].gpu_diff()
                arguments = *self._geometry(bottom, top), side, a, b, dy, blob.mutable_gpu_diff()
                self.kernel("backward")(blob.count, *arguments)

    def _geometry(self, bottom, top) -> tuple[int, ...]:
        offsets = [border - pad for border, pad in zip(self.borders, self.pads)]
        rows, columns = self.steps
        ranges = len(rows), len(columns), rows[0], columns[0], self.param.stride_2
        return (
            *bottom[0].shape[1:],
            *top[0].shape[2:],
            *offsets,
            *ranges,
            self.stride,
            self.kernel_size,
            self.subtract,
        )
