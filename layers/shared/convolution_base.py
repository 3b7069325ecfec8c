"""The geometry, checks, parameters and passes that Convolution and Deconvolution share."""

from __future__ import annotations

import math
from typing import Any

from minicaffe.core.layer import Layer
from minicaffe.cuda import convolution
from minicaffe.layers.shared.correlation import Correlation
from minicaffe.layers.shared.depthwise import DepthwiseCorrelation
from minicaffe.layers.shared.pointwise import PointwiseCorrelation
from minicaffe.layers.shared.views import by_channel
from minicaffe.layers.shared.window import conv_window
from minicaffe.layers.shared.words import convolution_words
from minicaffe.proto.caffe_pb2 import ConvolutionParameter


class ConvolutionBase(Layer):
    """A correlation of a wide blob with the weights gives a narrow one; a type states which of them is its bottom.

    Convolution: the bottom is wide. Forward is the correlation, backward its data gradient.
    Deconvolution (`transposed`): the top is wide. Forward is the data gradient, backward the correlation.

    bottoms: (N, C, *spatial), all of one shape; as many tops; all use the same weights.
    `axis` is the channel axis: the axes before it count samples, those after it are spatial.
    """

    family = "weights"
    resamples = "down"
    param_field = "convolution_param"
    describe = staticmethod(convolution_words)
    min_bottom = 1
    min_top = 1
    equal_num_bottom_top = True
    transposed = False  #: whether the top, not the bottom, is the wide blob
    in_place = False
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        param = self.convolution_param
        shape = bottom[0].shape
        self.axis = bottom[0].canonical_axis(param.axis)
        self.channels, self.num_spatial = shape[self.axis], len(shape) - self.axis - 1
        self.window = conv_window(param, self.num_spatial)
        self.num_output, self.group, self.bias_term = param.num_output, self.groups(param), param.bias_term
        if self.num_output < 1:
            raise self.error("num_output must be at least 1")
        if self.group < 1 or self.channels % self.group or self.num_output % self.group:
            raise self.error(
                f"group must divide the channels of the bottom and num_output, got group {self.group}, "
                f"{self.channels} channels and num_output {self.num_output}"
            )
        product = self.window.with_axes(max(1, self.num_spatial)), self.group, self.dtype
        self.correlation = self._kind()(*product, self.scratch)
        fits = self.num_spatial <= convolution.MOST_AXES
        self.on_device = convolution.CudaCorrelation(*product) if fits else None
        self._prepared = None

    @property
    def convolution_param(self) -> ConvolutionParameter:
        """The parameters (overridden by types with a message of their own)."""
        return self.layer_param.convolution_param

    def _kind(self) -> type[Correlation]:
        """The class of the products in numpy."""
        if self.group > 1 and self.group == self.channels == self.num_output:
            return DepthwiseCorrelation
        return PointwiseCorrelation if self.window.is_pointwise else Correlation

    def groups(self, param) -> int:
        """The number of groups of channels (overridden by the depthwise types)."""
        return param.group

    def oriented(self, first: Any, second: Any) -> tuple[Any, Any]:
        """(first, second) for a convolution, (second, first) for its transpose.

        So (bottom, top) becomes (wide, narrow), and (correlation, data gradient) the products of (forward, backward).
        """
        return (second, first) if self.transposed else (first, second)

    def products(self, correlation: Any) -> tuple[Any, Any]:
        """The products of a correlation that compute the top and the bottom's gradient."""
        return self.oriented(correlation.forward, correlation.data_gradient)

    # -- shapes --------------------------------------------------------------------------------------------------------

    def weight_shape(self) -> tuple[int, ...]:
        """(narrow channels, wide channels / group, *kernel)"""
        wide, narrow = self.oriented(self.channels, self.num_output)
        return (narrow, wide // self.group, *self.window.kernel)

    def param_shapes(self, bottom_shapes):
        param = self.convolution_param
        bias = [((self.num_output,), param.bias_filler)] if self.bias_term else []
        return [(self.weight_shape(), param.weight_filler), *bias]

    def top_shapes(self, bottom_shapes):
        shape = self.check_shapes(bottom_shapes)
        size = (self.window.input if self.transposed else self.window.output)(shape[self.axis + 1 :])
        return [(*shape[: self.axis], self.num_output, *size)] * len(bottom_shapes)

    def check_shapes(self, bottom_shapes) -> tuple[int, ...]:
        """The one shape of all bottoms; `LayerError` when they differ or have other axes or channels than at setup."""
        first = bottom_shapes[0]
        if len(first) != self.axis + 1 + self.num_spatial or first[self.axis] != self.channels:
            letters = {1: " (N, C, W)", 2: " (N, C, H, W)", 3: " (N, C, D, H, W)"} if self.axis == 1 else {}
            raise self.error(
                f"bottom 0 must have {self.axis + 1 + self.num_spatial} axes{letters.get(self.num_spatial, '')} with "
                f"{self.channels} channels on axis {self.axis}, got {first}"
            )
        for i, shape in enumerate(bottom_shapes):
            if shape != first:
                raise self.error(f"all bottoms must have one shape: bottom 0 has {first}, bottom {i} has {shape}")
        return first

    def macs(self, bottom_shapes, top_shapes):
        """A filter's weights for each number of the narrow blobs: the tops' of a convolution, else the bottoms'."""
        filter_size = math.prod(self.weight_shape()[1:])
        return sum(math.prod(narrow) * filter_size for narrow in self.oriented(bottom_shapes, top_shapes)[1])

    def samples_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A blob's shape as (N, channels, *spatial), with one spatial place where there is no spatial axis."""
        return (math.prod(shape[: self.axis]), shape[self.axis], *(shape[self.axis + 1 :] or (1,)))

    def samples(self, values):
        """A view of an array as (N, channels, *spatial)."""
        return values.reshape(self.samples_shape(values.shape))

    def weights(self, values):
        """A view of the weights, or of their diff, with one spatial place where there is no spatial axis."""
        return values if self.num_spatial else values[..., None]

    # -- passes --------------------------------------------------------------------------------------------------------

    def forward_cpu(self, bottom, top):
        multiply, _ = self.products(self.correlation)
        w = self.weights(self.blobs[0].read_data())
        for b, t in zip(bottom, top):
            y = self.samples(t.data)
            multiply(self.samples(b.read_data()), w, y)
            if self.bias_term:
                y += self.blobs[1].read_data().reshape(-1, *[1] * (y.ndim - 2))

    def forward_gpu(self, bottom, top):
        if not self.on_device:
            return self.forward_cpu(bottom, top)
        self.prepare_gpu(bottom, top)
        multiply, _ = self.products(self.on_device)
        w = self.blobs[0].gpu_data()
        for b, t in zip(bottom, top):
            multiply(b.gpu_data(), w, t.mutable_gpu_data(), self.bias_gpu())

    def backward_cpu(self, top, propagate_down, bottom):
        _, multiply = self.products(self.correlation)
        for b, t, wanted in zip(bottom, top, propagate_down):
            dy = self.samples(t.read_diff())
            if self.bias_term and self.param_propagate_down[1]:
                self.blobs[1].diff += by_channel(dy).sum(2).sum(0)
            x, w = self.samples(b.read_data()), self.weights(self.blobs[0].read_data())
            if wanted and self.param_propagate_down[0] and not self.transposed:
                self.correlation.gradients(x, dy, w, self.samples(b.diff), self.weights(self.blobs[0].diff))
                continue
            if self.param_propagate_down[0]:
                self.correlation.weight_gradient(*self.oriented(x, dy), self.weights(self.blobs[0].diff))
            if wanted:
                multiply(dy, w, self.samples(b.diff))

    def backward_gpu(self, top, propagate_down, bottom):
        if not self.on_device:
            return self.backward_cpu(top, propagate_down, bottom)
        _, multiply = self.products(self.on_device)
        for b, t, wanted in zip(bottom, top, propagate_down):
            dy = t.gpu_diff()
            db = self.blobs[1].mutable_gpu_diff() if self.bias_term and self.param_propagate_down[1] else 0
            together = self.param_propagate_down[0] and not self.transposed
            if db and not together:
                self.on_device.bias_gradient(dy, self.samples_shape(t.shape), db)
            if self.param_propagate_down[0]:
                x, dw = b.gpu_data(), self.blobs[0].mutable_gpu_diff()
                self.on_device.weight_gradient(*self.oriented(x, dy), dw, db if together else 0)
            if wanted:
                multiply(dy, self.blobs[0].gpu_data(), b.mutable_gpu_diff())

    def prepare_gpu(self, bottom, top) -> None:
        """Give the device's products the shapes when they have changed."""
        if self.on_device and self._prepared != bottom[0].shape:
            self._prepared = bottom[0].shape
            x, y = self.oriented(bottom[0].shape, top[0].shape)
            self.on_device.prepare(self.samples_shape(x), self.samples_shape(y))

    def bias_gpu(self) -> int:
        """The bias's device address; 0 without a bias."""
        return self.blobs[1].gpu_data() if self.bias_term else 0
