"""Pooling: the maximum, mean or a random element of each window of each channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.cuda.kernels import row_blocks
from minicaffe.cuda.memory import DeviceBuffer
from minicaffe.cuda.pooling_volumes import pooling_for
from minicaffe.cuda.random import DeviceStream
from minicaffe.layers.shared.pool_windows import average, average_gradient, maximum, maximum_gradient, maximum_places
from minicaffe.layers.shared.window import Window, all_overlaps, pool_window
from minicaffe.layers.shared.words import pooling_words
from minicaffe.proto import TEST
from minicaffe.proto.caffe_pb2 import PoolingParameter


@register("Pooling")
class Pooling(Layer):
    """MAX: y = the largest x of a window; AVE: its mean; STOCHASTIC: one, drawn with probability x / sum(x).

    bottom: (N, C, H, W), or (N, C, *in) with any number of spatial axes; top 0: (N, C, h, w); top 1, with MAX only: the
    mask (N, C, h, w), the position row * W + column of each maximum, the first of equal ones.

    pooling_param: pool MAX, kernel_size (or kernel_h, kernel_w), stride 1, pad 0 (MAX and AVE only), dilation 1
        (naibaf7), each once or once for each axis; global_pooling (false; true: one window over the whole picture),
        round_mode CEIL (or ceil_mode, true for CEIL).

    h = ceil((H + 2 pad - (dilation (kernel - 1) + 1)) / stride) + 1, so the last windows may extend beyond the border;
    with padding, a window that would begin in the far padding is left out.  AVE divides by the size of the window
    within the padded picture.  A window wholly outside the picture (possible if stride > kernel) gives 0 and the mask
    -1.  In TEST, STOCHASTIC gives the expected value sum(x^2) / sum(x); it is for two spatial axes.
    Source of STOCHASTIC: Zeiler and Fergus, 2013; of more axes: R-C3D's and naibaf7's Caffe.
    """

    family = "pooling"
    resamples = "down"
    describe = staticmethod(pooling_words)
    exact_num_bottom = 1
    min_top = 1
    max_top = 2
    in_place = False
    backward_reads = ("bottom",)
    clips = True  #: whether a window that would begin in the far padding is left out
    whole = False  #: whether AVE divides by the elements of a window, also where it reaches beyond the padded picture

    def setup(self, bottom, top):
        param = self.pooling_param
        self.pool = param.PoolMethod.Name(param.pool)
        self.floor = param.round_mode == param.FLOOR
        if param.HasField("ceil_mode") and not param.HasField("round_mode"):
            self.floor = not param.ceil_mode
        self.maxima, self.input = Blob((), self.dtype), Blob((), self.dtype)  # y and x of the last forward pass
        self.mask: DeviceBuffer | None = None  # on the device: the position of each output's x
        self.random: DeviceStream | None = None
        self._window: tuple[tuple[int, ...], Window] | None = None  # of the last shape
        if len(top) > 1 and self.pool != "MAX":
            raise self.error(f"only MAX pooling has a mask as its second top, this one is {self.pool}")

    def top_shapes(self, bottom_shapes):
        (shape,) = bottom_shapes
        if len(shape) < 3:
            raise self.error(f"bottom 0 must be (N, C, H, W), or have another number of spatial axes, got {shape}")
        if 0 in shape[2:]:
            raise self.error(f"there is nothing to pool in bottom 0 of shape {shape}")
        window = self.window(shape)
        if any(p >= k for p, k in zip(window.pad, window.extent)):
            raise self.error(f"pad must be smaller than the kernel, got pad {window.pad} and kernel {window.kernel}")
        if self.pool == "STOCHASTIC" and not window.is_planar:
            raise self.error("stochastic pooling is for two spatial axes without dilation")
        if any(window.pad) and self.pool == "STOCHASTIC":
            raise self.error(f"stochastic pooling cannot pad, got pad {window.pad}")
        out = window.pooled(shape[2:], self.floor, self.clips)
        return [(*shape[:2], *out)] * (1 + self.has_mask)

    @property
    def pooling_param(self) -> PoolingParameter:
        """The parameters (overridden by types with a message of their own)."""
        return self.layer_param.pooling_param

    def window(self, shape) -> Window:
        """Return the window for a bottom of this shape."""
        if self._window is None or self._window[0] != shape:
            self._window = shape, pool_window(self.pooling_param, shape[2:])
        return self._window[1]

    def reshape(self, bottom, top):
        self.has_mask = len(top) > 1
        super().reshape(bottom, top)
        self.maxima.reshape(top[0].shape)
        self.input.reshape(bottom[0].shape)
        window, shapes = self.window(bottom[0].shape), (bottom[0].shape, top[0].shape)
        self.on_device: Any = pooling_for(window, *shapes, self.dtype, self.whole and self.pool == "AVE")

    def forward_cpu(self, bottom, top):
        x, y = bottom[0].read_data(), top[0].data
        window = self.window(x.shape)
        if self.pool == "MAX":
            maximum(x, window, y)
            self.maxima.data, self.input.data = y, x  # backward compares them to find the maxima
            if len(top) > 1:
                top[1].data = maximum_places(x, window, y)
        elif self.pool == "AVE":
            average(x, window, y, self.whole)
        else:
            self._forward_stochastic(x, window, y)

    def backward_cpu(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        self._refuse_expected_value()
        dx, dy = bottom[0].diff, top[0].read_diff()
        window = self.window(dx.shape)
        dx[...] = 0
        if self.pool == "MAX":
            maximum_gradient(self.input.read_data(), window, self.maxima.read_data(), dy, dx)
        elif self.pool == "AVE":
            average_gradient(window, dy, dx, self.whole)
        else:
            for j, (outputs, where) in enumerate(_places(dx, dy, window)):
                dx[where] += np.where(self.chosen[outputs] == j, dy[outputs], 0)

    def forward_gpu(self, bottom, top):
        x, y, n = bottom[0].gpu_data(), top[0].mutable_gpu_data(), top[0].count
        if self.on_whole_planes:
            places = bottom[0].count_range(2)
            blocks, threads = row_blocks(n, places)
            self.kernel("global_ave_forward").launch((blocks, 1), threads, n, places, x, y)
        elif self.on_device is None:
            self.forward_cpu(bottom, top)
        elif self.pool != "STOCHASTIC":
            self.on_device.forward(x, y, *self.masks_gpu(top))
        elif self.phase == TEST:
            self.kernel("stochastic_test")(n, *self.on_device.geometry, x, y)
        else:
            self.random = self.random or DeviceStream(self.rng)
            draw = self.random.draw(n), ops.tickets(1)
            self.kernel("stochastic_train")(n, *self.on_device.geometry, *draw, x, y, self.masks_gpu(top)[0])

    def backward_gpu(self, top, propagate_down, bottom):
        if self.on_device is None:
            self.backward_cpu(top, propagate_down, bottom)
        elif propagate_down[0]:
            self._refuse_expected_value()
            self.on_device.backward(top[0].gpu_diff(), bottom[0].mutable_gpu_diff(), self.mask or 0)

    @property
    def on_whole_planes(self) -> bool:
        """Whether the device computes the means of whole planes."""
        return self.pool == "AVE" and self.pooling_param.global_pooling

    def masks_gpu(self, top) -> tuple[Any, int]:
        """Return device pointers for the position of each output's x, as int and for top 1; 0 for none."""
        if self.pool != "AVE" and (self.mask is None or self.mask.nbytes < 4 * top[0].count):
            self.mask = DeviceBuffer(4 * top[0].count)
        return self.mask or 0, top[1].mutable_gpu_data() if len(top) > 1 else 0

    def _refuse_expected_value(self):
        """Raise LayerError for STOCHASTIC in TEST: forward draws no elements there, to which gradients would go."""
        if self.pool == "STOCHASTIC" and self.phase == TEST:
            raise self.error("stochastic pooling has no backward pass in TEST")

    def _forward_stochastic(self, x, window, y):
        places = list(_places(x, y, window))
        sums = np.zeros_like(y)
        for outputs, where in places:
            sums[outputs] += x[where]
        if self.phase == TEST:
            squares = np.zeros_like(y)
            for outputs, where in places:
                squares[outputs] += x[where] ** 2
            y[...] = squares / np.maximum(sums, np.finfo(y.dtype).tiny)
            return
        # add up each window until the partial sum reaches a random fraction of the total
        uniform = (self.rng.uniform_u32(y.size).reshape(y.shape) * 2.0**-32).astype(y.dtype)
        threshold, passed = uniform * sums, np.zeros_like(y)
        y[...] = 0
        self.chosen = np.full(y.shape, -1)
        for j, (outputs, where) in enumerate(places):
            passed[outputs] += x[where]
            here = (self.chosen[outputs] < 0) & (passed[outputs] >= threshold[outputs])
            self.chosen[outputs][here] = j
            y[outputs][here] = x[where][here]


def _places(x, y, window):
    """For each element of a window: yield the windows in which it is inside the picture, and its positions there."""
    for _, inside, source in all_overlaps(x.shape[2:], y.shape[2:], window):
        yield (..., *inside), (..., *source)
