"""Deconvolution: convolution turned around, for upsampling."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.shared.convolution_base import ConvolutionBase


@register("Deconvolution")
class Deconvolution(ConvolutionBase):
    """Forward is what a Convolution does backward: every input place adds a scaled copy of the filter to the output.

    bottoms: (N, C, *in); tops: (N, num_output, *out) with
        out = stride (in - 1) + dilation (kernel - 1) + 1 - 2 pad
    blobs: weights (C, num_output / group, *kernel), bias (num_output)

    convolution_param: as Convolution's.  With weight_filler "bilinear", group = C = num_output, kernel_size
        2 f - f % 2, stride f and pad ceil((f - 1) / 2) it interpolates by the factor f.
    Source: Long, Shelhamer and Darrell, 2015.
    """

    transposed = True

    def weight_shape(self):
        return (self.channels, self.num_output // self.group, *self.window.kernel)

    def top_shapes(self, bottom_shapes):
        shape = self.check_shapes(bottom_shapes)
        out = self.window.input(shape[self.axis + 1 :])
        return [(*shape[: self.axis], self.num_output, *out)] * len(bottom_shapes)

    def forward_cpu(self, bottom, top):
        w = self.weights(self.blobs[0].read_data())
        for b, t in zip(bottom, top):
            y = self.samples(t.data, self.num_output)
            self.correlation.data_gradient(self.samples(b.read_data(), self.channels), w, y)
            self.add_bias(y)

    def backward_cpu(self, top, propagate_down, bottom):
        for b, t, wanted in zip(bottom, top, propagate_down):
            dy = self.samples(t.read_diff(), self.num_output)
            self.bias_gradient(dy)
            if self.param_propagate_down[0]:
                x = self.samples(b.read_data(), self.channels)
                self.correlation.weight_gradient(dy, x, self.weights(self.blobs[0].diff))
            if wanted:
                dx = self.samples(b.diff, self.channels)
                self.correlation.forward(dy, self.weights(self.blobs[0].read_data()), dx)

    def forward_gpu(self, bottom, top):
        if not self.on_device:
            return self.forward_cpu(bottom, top)
        self.prepare_gpu(bottom, top)
        w = self.blobs[0].gpu_data()
        for b, t in zip(bottom, top):
            self.on_device.data_gradient(b.gpu_data(), w, t.mutable_gpu_data(), self.bias_gpu())

    def backward_gpu(self, top, propagate_down, bottom):
        if not self.on_device:
            return self.backward_cpu(top, propagate_down, bottom)
        for b, t, wanted in zip(bottom, top, propagate_down):
            self.bias_gradient_gpu(t)
            if self.param_propagate_down[0]:
                self.on_device.weight_gradient(t.gpu_diff(), b.gpu_data(), self.blobs[0].mutable_gpu_diff())
            if wanted:
                self.on_device.forward(t.gpu_diff(), self.blobs[0].gpu_data(), b.mutable_gpu_diff())
