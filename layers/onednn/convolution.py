"""Convolution and Deconvolution by oneDNN's convolution primitives, in the layouts that these choose."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.deconvolution import Deconvolution
from minicaffe.layers.extensions.convolution_depthwise import ConvolutionDepthwise, DepthwiseConvolution
from minicaffe.layers.onednn.convolution_base import OneDNNConvolutionBase
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Alg, Arg
from minicaffe.onednn.tensors import plain
from minicaffe.proto import TEST


@register("Convolution", engine="ONEDNN")
class OneDNNConvolution(OneDNNConvolutionBase, Convolution):
    __doc__ = Convolution.__doc__
    bf16_use = "writes"

    def forward_onednn(self, bottom, top, post=()):
        for b, t in zip(bottom, top, strict=True):
            conv = self.plan(self.make_forward, b.shape, t.shape, self.bias_term, post, self.phase != TEST)
            bias = layouts.data(self.blobs[1]) if self.bias_term else None
            self.convolve(conv, b, t, self.weights_as(conv), bias)

    def add_weight_diffs(self, bottom, top):
        self.add_to_diffs(*self.weight_gradient(bottom, top, self.bias_term and self.param_propagate_down[1]))


@register("ConvolutionDepthwise", engine="ONEDNN")
class OneDNNConvolutionDepthwise(OneDNNConvolution, ConvolutionDepthwise):
    __doc__ = ConvolutionDepthwise.__doc__


@register("DepthwiseConvolution", engine="ONEDNN")
class OneDNNDepthwiseConvolution(OneDNNConvolution, DepthwiseConvolution):
    __doc__ = DepthwiseConvolution.__doc__


@register("Deconvolution", engine="ONEDNN")
class OneDNNDeconvolution(OneDNNConvolutionBase, Deconvolution):
    __doc__ = Deconvolution.__doc__
    bf16_use = "reads"

    def make_bias(self, desc):
        """y += b, and the sum of dy over all but the channels: no convolution primitive has a bias on its wide side."""
        channels = plain((1, self.num_output) + (1,) * self.num_spatial)
        return primitives.binary(Alg.ADD, desc, channels, desc), primitives.reduction(Alg.REDUCE_SUM, desc, channels)

    def forward_onednn(self, bottom, top):
        for b, t in zip(bottom, top, strict=True):
            conv = self.plan(self.make_backward_data, t.shape, b.shape)
            y = self.convolve(conv, b, t, self.weights_as(conv))
            if self.bias_term:
                add, _ = self.plan(self.make_bias, y.desc)
                bias = layouts.read(self.blobs[1].data_memory, add.desc(Arg.SRC_1).shape)
                self.execute(add, Arg.SRC, y, Arg.SRC_1, bias, Arg.DST, y)

    def add_weight_diffs(self, bottom, top):
        if self.param_propagate_down[0]:
            dw, _ = self.weight_gradient(bottom, top)
            layouts.add_to_diff(self.blobs[0], dw)
        if self.bias_term and self.param_propagate_down[1]:
            dy = layouts.diff(top)
            _, total = self.plan(self.make_bias, dy.desc)
            db = self.borrow(total.desc(Arg.DST), "db")
            self.execute(total, Arg.SRC, dy, Arg.DST, db)
            layouts.add_to_diff(self.blobs[1], db)
