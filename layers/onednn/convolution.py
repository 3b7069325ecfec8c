"""Convolution and Deconvolution by oneDNN's convolution primitives, each in the layouts it likes best."""

from __future__ import annotations

from minicaffe.core.registry import register
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.deconvolution import Deconvolution
from minicaffe.layers.extensions.convolution_depthwise import ConvolutionDepthwise, DepthwiseConvolution
from minicaffe.layers.onednn.base import OneDNNLayer
from minicaffe.layers.shared.convolution_base import ConvolutionBase
from minicaffe.onednn import layouts, primitives
from minicaffe.onednn.library import Alg, Arg
from minicaffe.onednn.tensors import Tensor, any_layout, plain
from minicaffe.proto.caffe_pb2 import TEST


class OneDNNConvolutionBase(OneDNNLayer, ConvolutionBase):
    """One geometry and the three primitives of it: forward, to the data, to the weights.

    `wide` is the blob at the convolution's input, `narrow` the one at its output; a Deconvolution is the same geometry
    run backwards, with wide tops and narrow bottoms.
    """

    reads_blobs_only = True

    def expressible(self, bottom, top):
        return self.axis == 1 and 1 <= self.num_spatial <= 3

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        out, within = self.blobs[0].shape[:1], self.blobs[0].shape[1:]
        self.grouped = (self.group, out[0] // self.group, *within) if self.group > 1 else (*out, *within)

    def geometry(self, wide, narrow) -> tuple:
        """Strides, dilations and paddings, as oneDNN counts them."""
        window = self.window
        high = tuple(
            (o - 1) * s + e - i - p
            for o, s, e, i, p in zip(narrow[2:], window.stride, window.extent, wide[2:], window.pad, strict=True)
        )
        return window.stride, tuple(d - 1 for d in window.dilation), window.pad, high

    def make_forward(self, wide, narrow, bias: bool, post: tuple = (), training: bool = True):
        bias_desc = plain((narrow[1],)) if bias else None
        weights = any_layout(self.grouped)
        geometry = self.geometry(wide, narrow)
        wide, narrow = any_layout(wide), any_layout(narrow)
        return primitives.convolution(wide, weights, bias_desc, narrow, *geometry, training, post)

    def make_backward_data(self, wide, narrow):
        hint = self.make_forward(wide, narrow, False)
        return primitives.convolution_backward_data(
            any_layout(wide), any_layout(self.grouped), any_layout(narrow), *self.geometry(wide, narrow), hint
        )

    def make_backward_weights(self, wide, narrow, bias: bool):
        return primitives.convolution_backward_weights(
            any_layout(wide),
            any_layout(self.grouped),
            plain((narrow[1],)) if bias else None,
            any_layout(narrow),
            *self.geometry(wide, narrow),
            self.make_forward(wide, narrow, bias),
        )

    def weights_as(self, primitive) -> Tensor:
        """The weights in the layout a primitive wants."""
        return layouts.read(self.blobs[0].data_memory, self.grouped, primitive.desc(Arg.WEIGHTS))


@register("Convolution", engine="ONEDNN")
class OneDNNConvolution(OneDNNConvolutionBase, Convolution):
    __doc__ = Convolution.__doc__
    role = "Convolution"

    def forward_onednn(self, bottom, top, post=()):
        for b, t in zip(bottom, top, strict=True):
            # in TEST oneDNN has faster kernels, which leave other layouts than those that backward likes
            conv = self.plan(self.make_forward, b.shape, t.shape, self.bias_term, post, self.phase != TEST)
            bias = layouts.data(self.blobs[1]) if self.bias_term else None
            self.convolve(conv, b, t, self.weights_as(conv), bias)

    def convolve(self, conv, bottom, top, weights, bias):
        """Run a forward primitive."""
        x = layouts.data(bottom, conv.desc(Arg.SRC))
        y = layouts.mutable_data(top, conv.desc(Arg.DST))
        self.execute(conv, Arg.SRC, x, Arg.WEIGHTS, weights, Arg.BIAS, bias, Arg.DST, y)

    def backward_onednn(self, top, propagate_down, bottom):
        for b, t, wanted in zip(bottom, top, propagate_down, strict=True):
            if any(self.param_propagate_down):
                self.add_weight_diffs(b, t)
            if wanted:
                conv = self.plan(self.make_backward_data, b.shape, t.shape)
                dy = layouts.diff(t, conv.desc(Arg.DIFF_DST))
                dx = layouts.mutable_diff(b, conv.desc(Arg.DIFF_SRC))
                self.execute(conv, Arg.DIFF_DST, dy, Arg.WEIGHTS, self.weights_as(conv), Arg.DIFF_SRC, dx)

    def add_weight_diffs(self, bottom, top):
        """Add to the diffs of weights and bias."""
        bias = self.bias_term and self.param_propagate_down[1]
        conv = self.plan(self.make_backward_weights, bottom.shape, top.shape, bias)
        x = layouts.data(bottom, conv.desc(Arg.SRC))
        dy = layouts.diff(top, conv.desc(Arg.DIFF_DST))
        dw, db = self.own(conv.desc(Arg.DIFF_WEIGHTS)), self.own(conv.desc(Arg.DIFF_BIAS) if bias else None)
        self.execute(conv, Arg.SRC, x, Arg.DIFF_DST, dy, Arg.DIFF_WEIGHTS, dw, Arg.DIFF_BIAS, db)
        if self.param_propagate_down[0]:
            layouts.add_to_diff(self.blobs[0], dw)
        if bias:
            layouts.add_to_diff(self.blobs[1], db)


@register("ConvolutionDepthwise", engine="ONEDNN")
class OneDNNConvolutionDepthwise(OneDNNConvolution, ConvolutionDepthwise):
    __doc__ = ConvolutionDepthwise.__doc__


@register("DepthwiseConvolution", engine="ONEDNN")
class OneDNNDepthwiseConvolution(OneDNNConvolution, DepthwiseConvolution):
    __doc__ = DepthwiseConvolution.__doc__


@register("Deconvolution", engine="ONEDNN")
class OneDNNDeconvolution(OneDNNConvolutionBase, Deconvolution):
    __doc__ = Deconvolution.__doc__

    def make_bias(self, desc):
        """y += b, and the sum of dy over all but the channels."""
        channels = plain((1, self.num_output) + (1,) * self.num_spatial)
        return primitives.binary(Alg.ADD, desc, channels, desc), primitives.reduction(Alg.REDUCE_SUM, desc, channels)

    def forward_onednn(self, bottom, top):
        for b, t in zip(bottom, top, strict=True):
            conv = self.plan(self.make_backward_data, t.shape, b.shape)
            x = layouts.data(b, conv.desc(Arg.DIFF_DST))
            y = layouts.mutable_data(t, conv.desc(Arg.DIFF_SRC))
            self.execute(conv, Arg.DIFF_DST, x, Arg.WEIGHTS, self.weights_as(conv), Arg.DIFF_SRC, y)
            if self.bias_term:
                add, _ = self.plan(self.make_bias, y.desc)
                bias = layouts.read(self.blobs[1].data_memory, add.desc(Arg.SRC_1).shape)
                self.execute(add, Arg.SRC, y, Arg.SRC_1, bias, Arg.DST, y)

    def backward_onednn(self, top, propagate_down, bottom):
        for b, t, wanted in zip(bottom, top, propagate_down, strict=True):
            if any(self.param_propagate_down):
                self.add_weight_diffs(b, t)
            if wanted:
                conv = self.plan(self.make_forward, t.shape, b.shape, False)
                dy = layouts.diff(t, conv.desc(Arg.SRC))
                dx = layouts.mutable_diff(b, conv.desc(Arg.DST))
                self.execute(conv, Arg.SRC, dy, Arg.WEIGHTS, self.weights_as(conv), Arg.DST, dx)

    def add_weight_diffs(self, bottom, top):
        """Add to the diffs of weights and bias."""
        if self.param_propagate_down[0]:
            conv = self.plan(self.make_backward_weights, top.shape, bottom.shape, False)
            dy = layouts.diff(top, conv.desc(Arg.SRC))
            x = layouts.data(bottom, conv.desc(Arg.DIFF_DST))
            dw = self.own(conv.desc(Arg.DIFF_WEIGHTS))
            self.execute(conv, Arg.SRC, dy, Arg.DIFF_DST, x, Arg.DIFF_WEIGHTS, dw)
            layouts.add_to_diff(self.blobs[0], dw)
        if self.bias_term and self.param_propagate_down[1]:
            dy = layouts.diff(top)
            _, total = self.plan(self.make_bias, dy.desc)
            db = self.own(total.desc(Arg.DST))
            self.execute(total, Arg.SRC, dy, Arg.DST, db)
            layouts.add_to_diff(self.blobs[1], db)
