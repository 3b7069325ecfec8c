"""DenseBlock: steps that each add channels, computed from all channels before."""

from __future__ import annotations

import math

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.cuda.strided import StridedView
from minicaffe.layers.shared.dense_step import DenseStep
from minicaffe.proto import caffe_pb2
from minicaffe.saved import field

_FIXED = {"pad_h": 1, "pad_w": 1, "conv_verticalStride": 1, "conv_horizentalStride": 1, "filter_H": 3, "filter_W": 3}
_STATISTICS = (3, 4, 8, 9)  # of the groups of blobs


@register("DenseBlock")
class DenseBlock(Layer):
    """x_0 = x, x_{t+1} = (x_t, f_t(x_t)) for t < T; f_t has g channels, so that x_t has C + t g

    f_t: batch normalization with factor and term, ReLU, convolution with 3x3 kernels, pad 1; with use_BC, before that:
    normalization, ReLU, and convolution with 1x1 kernels to 4 g channels; with use_dropout, behind it, Dropout.
    The 3x3 kernels are those of Caffe turned by 180 degrees: a convolution in the mathematical sense.

    bottom: x (N, C, H, W); top: x_T (N, C + T g, H, W)
    blobs, T of each: kernels (g, C + t g, 3, 3), or (g, 4 g, 3, 3) with use_BC; factors, terms, running means and
        variances, (1, C + t g, 1, 1); with use_BC 1x1 kernels (4 g, C + t g, 1, 1), and factors, terms, means and
        variances (1, 4 g, 1, 1); at last one number, which is not used.  Means and variances get lr_mult 0.
    denseblock_param: numTransition T (40), growthRate g (12); Filter_Filler, BN_Scaler_Filler, BN_Bias_Filler (constant
    0); use_BC (false); use_dropout (false), dropout_amount (0); moving_average_fraction a (0.1): running = a batch +
    (1 - a) running.  In TEST the running statistics are used.  initChannel has no effect: C is that of the bottom.
    Source: Huang, Liu, van der Maaten and Weinberger, 2017; Tongcheng's fork.
    """

    fork = "Tongcheng's; caffe_ocr"
    family = "weights"
    param_field = "denseblock_param"
    exact_num_bottom = exact_num_top = 1
    in_place = False
    backward_reads = ()

    @staticmethod
    def describe(layer_param):
        return f"{layer_param.denseblock_param.numTransition} x {layer_param.denseblock_param.growthRate}"

    def setup(self, bottom, top):
        self.param = param = self.layer_param.denseblock_param
        self.count, self.growth, self.bottleneck = param.numTransition, param.growthRate, param.use_BC
        if self.count < 1 or self.growth < 1:
            raise self.error("numTransition and growthRate must be at least 1")
        for name, value in _FIXED.items():
            if getattr(param, name) != value:
                raise self.error(f"{name} must be {value}, got {getattr(param, name)}")
        if bottom[0].num_axes != 4 or not bottom[0].shape[1]:
            raise self.error(f"bottom 0 must be (N, C, H, W) with channels, got {bottom[0].shape}")
        self.channels = bottom[0].shape[1]
        for i in range(10 * self.count + 1 if self.bottleneck else 5 * self.count + 1):
            own = self.layer_param.param[i] if i < len(self.layer_param.param) else self.layer_param.param.add()
            if i // self.count in _STATISTICS or i in (5 * self.count, 10 * self.count)[self.bottleneck :]:
                own.lr_mult = own.decay_mult = 0
        self.x, self.sums = Blob((), self.dtype), Blob((), self.dtype)  # x_t of one step; diffs of all channels
        self.steps: list[DenseStep] = []

    def before(self, t: int) -> int:
        """Return the number of channels of x_t."""
        return self.channels + t * self.growth

    def param_shapes(self, bottom_shapes):
        param, g, each = self.param, self.growth, range(self.count)
        zero, one = (caffe_pb2.FillerParameter(type="constant", value=value) for value in (0, 1))
        of_channels = [param.BN_Scaler_Filler, param.BN_Bias_Filler, zero, one]
        wide = 4 * g
        kernels = [((g, wide if self.bottleneck else self.before(t), 3, 3), param.Filter_Filler) for t in each]
        shapes = [*kernels, *(((1, self.before(t), 1, 1), filler) for filler in of_channels for t in each)]
        if self.bottleneck:
            shapes += [((wide, self.before(t), 1, 1), param.Filter_Filler) for t in each]
            shapes += [((1, wide, 1, 1), filler) for filler in of_channels for _ in each]
        return [*shapes, ((1,), zero)]

    def top_shapes(self, bottom_shapes):
        shape = bottom_shapes[0]
        if len(shape) != 4 or shape[1] != self.channels:
            raise self.error(f"bottom 0 must be (N, {self.channels}, H, W), got {shape}")
        return [(shape[0], self.before(self.count), *shape[2:])]

    def macs(self, bottom_shapes, top_shapes):
        kernels = [shape for shape, _ in self.param_shapes(bottom_shapes) if len(shape) == 4 and shape[0] > 1]
        return bottom_shapes[0][0] * math.prod(bottom_shapes[0][2:]) * sum(map(math.prod, kernels))

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        n, _, *place = bottom[0].shape
        whole = top[0].shape
        self.sums.reshape(whole)
        self.views = [StridedView(whole, (n, self.before(t), *place)) for t in range(self.count)]
        self.added = [
            StridedView(whole, (n, self.growth, *place), (0, self.before(t), 0, 0)) for t in range(self.count)
        ]
        if not self.steps:
            for t in range(self.count):
                self.x.reshape(n, self.before(t), *place)
                self.steps.append(DenseStep(self, t, self.x))
            self.collective = any(step.collective for step in self.steps)

    def state(self):
        return {**super().state(), "steps": [step.state() for step in self.steps]}

    def load_state(self, state):
        super().load_state(state)
        for step, own in zip(self.steps, field(state, "steps")):
            step.load_state(own)

    def forward_cpu(self, bottom, top):
        y, shape = top[0].data, bottom[0].shape
        y[:, : self.channels] = bottom[0].read_data()
        for t, step in enumerate(self.steps):
            first = self.before(t)
            self.x.reshape(shape[0], first, *shape[2:])
            self.x.data[...] = y[:, :first]
            step.kernel.data[...] = self.blobs[t].read_data()[:, :, ::-1, ::-1]
            step.forward()
            y[:, first : first + self.growth] = step.y.read_data()

    def backward_cpu(self, top, propagate_down, bottom):
        sums, shape = self.sums.data, bottom[0].shape
        sums[...] = top[0].read_diff()
        for t, step in reversed(list(enumerate(self.steps))):
            first = self.before(t)
            self.x.reshape(shape[0], first, *shape[2:])
            step.y.diff[...] = sums[:, first : first + self.growth]
            step.kernel.diff[...] = 0
            step.backward(self.param_propagate_down)
            if self.param_propagate_down[t]:
                self.blobs[t].diff += step.kernel.read_diff()[:, :, ::-1, ::-1]
            sums[:, :first] += self.x.read_diff()
        if propagate_down[0]:
            bottom[0].diff[...] = sums[:, : self.channels]

    def forward_gpu(self, bottom, top):
        y, shape = top[0].mutable_gpu_data(), bottom[0].shape
        self.views[0].put(bottom[0].gpu_data(), y, self.dtype)
        for t, step in enumerate(self.steps):
            self.x.reshape(shape[0], self.before(t), *shape[2:])
            self.views[t].take(y, self.x.mutable_gpu_data(), self.dtype)
            kernel = step.kernel
            self.kernel("turn")(kernel.count, self.blobs[t].gpu_data(), kernel.mutable_gpu_data())
            step.forward()
            self.added[t].put(step.y.gpu_data(), y, self.dtype)

    def backward_gpu(self, top, propagate_down, bottom):
        sums, shape = self.sums.mutable_gpu_data(), bottom[0].shape
        ops.copy(top[0].count, top[0].gpu_diff(), sums, self.dtype)
        for t, step in reversed(list(enumerate(self.steps))):
            first, kernel = self.before(t), step.kernel
            self.x.reshape(shape[0], first, *shape[2:])
            self.added[t].take(sums, step.y.mutable_gpu_diff(), self.dtype)
            ops.fill(kernel.count, 0, kernel.mutable_gpu_diff(), self.dtype)
            step.backward(self.param_propagate_down)
            if self.param_propagate_down[t]:
                self.kernel("add_turned")(kernel.count, kernel.gpu_diff(), self.blobs[t].mutable_gpu_diff())
            places = math.prod(shape[2:])
            sizes = self.x.count, first * places, top[0].shape[1] * places
            self.kernel("add_channels")(*sizes, self.x.gpu_diff(), sums)
        if propagate_down[0]:
            self.views[0].take(sums, bottom[0].mutable_gpu_diff(), self.dtype)
