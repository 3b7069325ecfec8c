"""Im2col: every window of the bottom as a column of the top."""

from __future__ import annotations

import math

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda.tables import MOST_AXES, device_window
from minicaffe.layers.shared.window import all_overlaps, conv_window
from minicaffe.layers.shared.words import convolution_words


@register("Im2col")
class Im2col(Layer):
    """y[n, (c, j), t] = x[n, c, t * stride + j * dilation - pad], 0 in the padding

    bottom: (N, C, *in); top: (N, C * kernel places, *out), out as Convolution's.  The place j in the kernel varies
    faster than the channel.

    convolution_param: kernel_size, stride 1, pad 0, dilation 1, axis 1, as Convolution's.
    """

    family = "weights"
    resamples = "down"
    param_field = "convolution_param"
    describe = staticmethod(convolution_words)
    exact_num_bottom = 1
    exact_num_top = 1
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        param = self.layer_param.convolution_param
        self.axis = bottom[0].canonical_axis(param.axis)
        self.num_spatial = bottom[0].num_axes - self.axis - 1
        if self.num_spatial < 1:
            raise self.error(f"bottom 0 must have spatial axes behind axis {self.axis}, got {bottom[0].shape}")
        self.window = conv_window(param, self.num_spatial)
        self._prepared = None

    def top_shapes(self, bottom_shapes):
        (shape,) = bottom_shapes
        if len(shape) != self.axis + 1 + self.num_spatial:
            raise self.error(f"bottom 0 must have {self.axis + 1 + self.num_spatial} axes, got {shape}")
        out = self.window.output(shape[self.axis + 1 :])
        return [(*shape[: self.axis], shape[self.axis] * math.prod(self.window.kernel), *out)]

    def forward_cpu(self, bottom, top):
        top[0].data = 0
        y = self._columns(top[0].data)
        for x_place, y_place in self._copies(bottom[0], top[0]):
            y[y_place] = self._samples(bottom[0].read_data())[x_place]

    def backward_cpu(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff = 0
            dx, dy = self._samples(bottom[0].diff), self._columns(top[0].read_diff())
            for x_place, y_place in self._copies(bottom[0], top[0]):
                dx[x_place] += dy[y_place]

    def forward_gpu(self, bottom, top):
        if self.num_spatial > MOST_AXES:
            return self.forward_cpu(bottom, top)
        if self._prepared != bottom[0].shape:
            self._prepared = bottom[0].shape
            size, output = bottom[0].shape[self.axis + 1 :], top[0].shape[self.axis + 1 :]
            self._device_window = device_window(self.window, size, output)
        y = top[0].mutable_gpu_data()
        self.kernel("im2col")(top[0].count, self._device_window, bottom[0].gpu_data(), y)

    def backward_gpu(self, top, propagate_down, bottom):
        if self.num_spatial > MOST_AXES:
            return self.backward_cpu(top, propagate_down, bottom)
        if propagate_down[0]:
            dx = bottom[0].mutable_gpu_diff()
            self.kernel("col2im")(bottom[0].count, self._device_window, top[0].gpu_diff(), dx)

    def _copies(self, bottom, top):
        """For each place in the kernel: the indices of its elements in the samples and in the columns."""
        size, output = bottom.shape[self.axis + 1 :], top.shape[self.axis + 1 :]
        for offset, inside, source in all_overlaps(size, output, self.window):
            yield (..., *source), (slice(None), slice(None), *offset, *inside)

    def _samples(self, x):
        """(N, C, *in)"""
        return x.reshape(math.prod(x.shape[: self.axis]), *x.shape[self.axis :])

    def _columns(self, y):
        """(N, C, *kernel, *out)"""
        kernel = self.window.kernel
        channels = y.shape[self.axis] // math.prod(kernel)
        return y.reshape(math.prod(y.shape[: self.axis]), channels, *kernel, *y.shape[self.axis + 1 :])
