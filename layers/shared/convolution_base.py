"""What Convolution and Deconvolution share: parameters, checks, weights, and who calls which product."""

from __future__ import annotations

import math

from minicaffe.core.layer import Layer
from minicaffe.cuda import convolution
from minicaffe.layers.shared.correlation import Correlation
from minicaffe.layers.shared.depthwise import DepthwiseCorrelation
from minicaffe.layers.shared.views import by_channel
from minicaffe.layers.shared.window import conv_window
from minicaffe.layers.shared.words import convolution_words


class ConvolutionBase(Layer):
    """Bottoms (N, C, *spatial) of one shape, as many tops; all use the same weights.

    `axis` is the channel axis: what stands before it are samples, what stands behind it is convolved over.
    """

    family = "weights"
    resamples = "down"
    param_field = "convolution_param"
    describe = staticmethod(convolution_words)
    min_bottom = 1
    min_top = 1
    equal_num_bottom_top = True
    transposed = False  #: whether the top, not the bottom, is what windows slide over
    in_place = False
    backward_reads = ("bottom",)

    def setup(self, bottom, top):
        param = self.layer_param.convolution_param
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
        depthwise = self.group > 1 and self.group == self.channels == self.num_output
        # a layer without spatial axes is one with a single place
        window = (
            self.window if self.num_spatial else self.window._replace(kernel=(1,), stride=(1,), pad=(0,), dilation=(1,))
        )
        self.correlation = (DepthwiseCorrelation if depthwise else Correlation)(window, self.group, self.dtype)
        fits = self.num_spatial <= convolution.MOST_AXES
        self.on_device = convolution.CudaCorrelation(window, self.group, self.dtype) if fits else None
        self._prepared = None

    def groups(self, param) -> int:
        """How many groups of channels there are (depthwise types know without being told)."""
        return param.group

    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the weights."""
        raise NotImplementedError

    def param_shapes(self, bottom_shapes):
        param = self.layer_param.convolution_param
        bias = [((self.num_output,), param.bias_filler)] if self.bias_term else []
        return [(self.weight_shape(), param.weight_filler), *bias]

    def check_shapes(self, bottom_shapes) -> tuple[int, ...]:
        """The one shape of all bottoms, or a `LayerError`."""
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

    def samples_shape(self, blob) -> tuple[int, ...]:
        """A blob's shape as (N, channels, *spatial), with one spatial place where there is none."""
        return (blob.count_range(0, self.axis), blob.shape[self.axis], *(blob.shape[self.axis + 1 :] or (1,)))

    def prepare_gpu(self, bottom, top) -> None:
        """Let the device's products know the shapes, when they are new."""
        if self._prepared != bottom[0].shape:
            self._prepared = bottom[0].shape
            x, y = (top[0], bottom[0]) if self.transposed else (bottom[0], top[0])
            self.on_device.prepare(self.samples_shape(x), self.samples_shape(y))

    def samples(self, values, channels: int):
        """An array as (N, channels, *spatial), with one spatial place where there is none."""
        count = math.prod(values.shape[: self.axis])
        return values.reshape(count, channels, *(values.shape[self.axis + 1 :] or (1,)))

    def weights(self, values):
        """The weights, or their diff, with one spatial place where there is none."""
        return values if self.num_spatial else values[..., None]

    def add_bias(self, y) -> None:
        """y (N, num_output, *spatial) += b."""
        if self.bias_term:
            y += self.blobs[1].read_data().reshape(-1, *[1] * (y.ndim - 2))

    def bias_gradient(self, dy) -> None:
        """Add the sum of dy over samples and places to the bias's diff."""
        if self.bias_term and self.param_propagate_down[1]:
            self.blobs[1].diff += by_channel(dy).sum(2).sum(0)

    def bias_gpu(self) -> int:
        """Where the bias lies on the device; 0 without one."""
        return self.blobs[1].gpu_data() if self.bias_term else 0

    def bias_gradient_gpu(self, top) -> None:
        """Add the sum of the top's diff over samples and places to the bias's diff."""
        if self.bias_term and self.param_propagate_down[1]:
            db = self.blobs[1].mutable_gpu_diff()
            self.on_device.bias_gradient(top.gpu_diff(), self.samples_shape(top), db)
