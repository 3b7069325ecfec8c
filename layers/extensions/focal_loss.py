"""FocalLoss: a softmax loss in which positions that are right already count little."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.cuda.kernels import kernel
from minicaffe.layers.softmax_loss import SoftmaxWithLoss


@register("FocalLoss")
class FocalLoss(SoftmaxWithLoss):
    """loss = -alpha * sum of (1 - p)^gamma log p / normalizer, with p the softmax of the label's score along `axis`.

    Bottoms: scores x (N, C, ...), labels (N, ...) or (N, 1, ...).  Tops: the loss, one number; optionally the softmax,
    of the shape of x.
    focal_loss_param: gamma (2), alpha (0.25), axis (1), type (ORIGIN; LINEAR is not implemented).  loss_param:
    ignore_label, normalization (VALID), as of SoftmaxWithLoss.
    Forks have several losses of this name; this is the one over a softmax.
    Source: Lin, Goyal, Girshick, He and Dollár, Focal loss for dense object detection, 2017.
    """

    fork = "ports of RetinaNet"
    more_params = ("focal_loss_param", "loss_param")

    @classmethod
    def kernel_file(cls):
        return "softmax_loss"

    def setup(self, bottom, top):
        param = self.layer_param.focal_loss_param
        if param.type != param.ORIGIN:
            raise self.error("type must be ORIGIN")
        if param.gamma < 0:
            raise self.error(f"gamma must be at least 0, got {param.gamma:g}")
        super().setup(bottom, top)
        self.given_axis, self.gamma, self.alpha = param.axis, param.gamma, param.alpha
        self.plain = Blob((), self.dtype)  # -log p of each position, 0 where ignored

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.plain.reshape(self.view[0] * self.view[2])

    def forward_cpu(self, bottom, top):
        super().forward_cpu(bottom, top)
        self.plain.data = self.losses.reshape(-1) if self.valid is None else (self.losses * self.valid).reshape(-1)
        plain = self.plain.read_data()
        away = -np.expm1(-plain)  # 1 - p
        top[0].data[...] = self.alpha * (away**self.gamma * plain).sum() / self._divisor()

    def backward_cpu(self, top, propagate_down, bottom):
        super().backward_cpu(top, propagate_down, bottom)
        if propagate_down[0]:
            outer, _, inner = self.view
            plain = self.plain.read_data()
            away = -np.expm1(-plain)
            power = away ** (self.gamma - 1) if self.gamma >= 1 else np.maximum(away, 1e-20) ** (self.gamma - 1)
            factor = self.alpha * (away**self.gamma + self.gamma * power * np.exp(-plain) * plain)
            bottom[0].diff.reshape(self.view)[...] *= factor.reshape(outer, 1, inner)

    def losses_gpu(self, top):
        return self.plain.mutable_gpu_data()

    def forward_gpu(self, bottom, top):
        super().forward_gpu(bottom, top)
        focus, n = kernel("extensions/focal_loss", "loss", self.dtype), self.plain.count
        arguments = n, self.gamma, self.alpha, self.plain.gpu_data()
        fixed = self.fixed_divisor(self.mode, self.view[0], self.view[2])
        self.terms.finish_by(focus, self.terms.grid(n), 256, arguments, fixed, top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        super().backward_gpu(top, propagate_down, bottom)
        if propagate_down[0]:
            _, classes, inner = self.view
            focus = kernel("extensions/focal_loss", "gradient", self.dtype)
            arguments = self.gamma, self.alpha, self.plain.gpu_data(), bottom[0].mutable_gpu_diff()
            focus(bottom[0].count, classes, inner, *arguments)
