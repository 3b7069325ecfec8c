"""SeLuDropout: dropout that keeps the mean and the variance of what follows a SeLu."""

from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.cuda.kernels import kernel
from minicaffe.cuda.random import DeviceStream
from minicaffe.layers.dropout import Dropout
from minicaffe.layers.extensions.selu import SeLu
from minicaffe.proto.caffe_pb2 import DropoutParameter

_LEAST = -SeLu.alpha * SeLu.scale  # the limit of a SeLu, -1.7581


@register("SeLuDropout")
class SeLuDropout(Dropout):
    """In TRAIN y = a (x or, with probability dropout_ratio, -1.7581) + b; in TEST y = x.

    bottom, top: any shape; in place if wanted.
    selu_dropout_param: dropout_ratio (0.05), in [0, 1).
    With q = 1 - dropout_ratio and l = -1.7581, what SeLu gives for x far below 0: a = (q + l^2 q (1 - q))^-1/2 and
    b = -a (1 - q) l.
    Source: Klambauer, Unterthiner, Mayr and Hochreiter, Self-normalizing neural networks, 2017 (alpha dropout).
    """

    fork = "soeaver"
    param_field = "selu_dropout_param"
    keeps_signs = False

    @staticmethod
    def describe(layer_param):
        return f"{layer_param.selu_dropout_param.dropout_ratio:g}"

    def setup(self, bottom, top):
        ratio = self.layer_param.selu_dropout_param.dropout_ratio
        self.read_param(DropoutParameter(dropout_ratio=ratio))
        kept = 1 - ratio
        self.scale = (kept + _LEAST**2 * kept * ratio) ** -0.5
        self.shift = -self.scale * ratio * _LEAST

    def forward_cpu(self, bottom, top):
        super().forward_cpu(bottom, top)
        if self.drops:
            dropped, y = self.mask.read_data() == 0, top[0].data
            y += y.dtype.type(self.shift)
            y[dropped] = self.scale * _LEAST + self.shift

    def forward_gpu(self, bottom, top):
        if not self.drops:
            super().forward_gpu(bottom, top)
            return
        if self.device_rng is None:
            self.device_rng = DeviceStream(self.rng)
        n, self.draw = bottom[0].count, self.device_rng.draw(bottom[0].count)
        rule = self.threshold, self.scale, self.shift, self.scale * _LEAST + self.shift
        forward = kernel("extensions/selu_dropout", "forward", self.dtype)
        forward(n, self.draw, ops.tickets(1), *rule, bottom[0].gpu_data(), top[0].mutable_gpu_data())

    @classmethod
    def kernel_file(cls):
        return "dropout"  # of the backward pass
