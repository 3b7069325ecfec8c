"""Convolution: learned filters slide over the bottoms."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.shared.convolution_base import ConvolutionBase


@register("Convolution")
class Convolution(ConvolutionBase):
    """y[n, o, t] = b[o] + sum over c, j of w[o, c, j] x[n, c, t * stride + j * dilation - pad]

    bottoms: (N, C, *in), any number of spatial axes; tops: (N, num_output, *out) with
        out = floor((in + 2 pad - (dilation (kernel - 1) + 1)) / stride) + 1
    blobs: weights (num_output, C / group, *kernel), bias (num_output)

    convolution_param: num_output, kernel_size (or kernel_h, kernel_w), stride 1, pad 0, dilation 1, group 1,
        bias_term true, weight_filler and bias_filler constant 0, axis 1.  Each spatial field once or once for each
        axis.

    With group = C = num_output (depthwise) a faster path than the matrix product is taken.
    Source: LeCun et al., 1998; dilation: Yu and Koltun, 2016.
    """

    def weight_shape(self):
        return (self.num_output, self.channels // self.group, *self.window.kernel)

    def top_shapes(self, bottom_shapes):
        shape = self.check_shapes(bottom_shapes)
        out = self.window.output(shape[self.axis + 1 :])
        return [(*shape[: self.axis], self.num_output, *out)] * len(bottom_shapes)

    def forward_cpu(self, bottom, top):
        w = self.weights(self.blobs[0].read_data())
        for b, t in zip(bottom, top):
            y = self.samples(t.data, self.num_output)
            self.correlation.forward(self.samples(b.read_data(), self.channels), w, y)
            self.add_bias(y)

    def backward_cpu(self, top, propagate_down, bottom):
        for b, t, wanted in zip(bottom, top, propagate_down):
            dy = self.samples(t.read_diff(), self.num_output)
            self.bias_gradient(dy)
            if self.param_propagate_down[0]:
                x = self.samples(b.read_data(), self.channels)
                self.correlation.weight_gradient(x, dy, self.weights(self.blobs[0].diff))
            if wanted:
                dx = self.samples(b.diff, self.channels)
                self.correlation.data_gradient(dy, self.weights(self.blobs[0].read_data()), dx)

    def forward_gpu(self, bottom, top):
        if not self.on_device:
            return self.forward_cpu(bottom, top)
        self.prepare_gpu(bottom, top)
        w = self.blobs[0].gpu_data()
        for b, t in zip(bottom, top):
            self.on_device.forward(b.gpu_data(), w, t.mutable_gpu_data(), self.bias_gpu())

    def backward_gpu(self, top, propagate_down, bottom):
        if not self.on_device:
            return self.backward_cpu(top, propagate_down, bottom)
        for b, t, wanted in zip(bottom, top, propagate_down):
            self.bias_gradient_gpu(t)
            if self.param_propagate_down[0]:
                self.on_device.weight_gradient(b.gpu_data(), t.gpu_diff(), self.blobs[0].mutable_gpu_diff())
            if wanted:
                self.on_device.data_gradient(t.gpu_diff(), self.blobs[0].gpu_data(), b.mutable_gpu_diff())
