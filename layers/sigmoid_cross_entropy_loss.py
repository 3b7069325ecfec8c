"""SigmoidCrossEntropyLoss: the cross entropy of independent binary targets."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.elementwise import logistic
from minicaffe.layers.shared.loss import DeviceTerms, LossLayer, ignored_label
from minicaffe.proto.caffe_pb2 import LossParameter


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(LossLayer):
    """loss = -sum of (t log s + (1 - t) log(1 - s)) / normalizer, with s = sigmoid(x).

    Computed as sum of max(x, 0) - x t + log(1 + exp(-|x|)), which cannot overflow.

    Bottoms: scores x and targets t in [0, 1], (N, ...), with as many numbers each.  Top: one number.
    loss_param: ignore_label (a target that equals it when truncated has no loss), normalization (BATCH_SIZE).
    """

    more_params = ("loss_param",)

    def setup(self, bottom, top):
        self.ignored = ignored_label(self.layer_param.loss_param)
        self.ignore_rule = (self.ignored is not None, self.ignored or 0)  # the form that kernels take
        self.mode = self.read_normalization(absent=LossParameter.BATCH_SIZE)
        self.terms = DeviceTerms(self.dtype)

    def top_shapes(self, bottom_shapes):
        x, t = bottom_shapes
        if np.prod(x) != np.prod(t):
            raise self.error(f"bottoms must hold equally many numbers, got {x} and {t}")
        return super().top_shapes(bottom_shapes)

    def _counted(self, targets):
        """Return which targets count, None for all, and the normalizer."""
        n, count = targets.shape[0], targets.size
        valid = None if self.ignored is None else targets.astype(np.int32) != self.ignored
        counted = count if valid is None else int(np.count_nonzero(valid))
        return valid, self.normalizer(self.mode, n, count // max(n, 1), counted)

    def forward_cpu(self, bottom, top):
        x, t = bottom[0].read_data(), bottom[1].read_data().reshape(bottom[0].shape)
        valid, divisor = self._counted(t)
        losses = np.abs(x)
        np.exp(np.negative(losses, out=losses), out=losses)
        losses += 1
        np.log(losses, out=losses)  # several times as fast as log1p, as exact as the sum
        losses += np.maximum(x, 0)
        losses -= x * t
        top[0].data[...] = losses.sum(where=True if valid is None else valid) / divisor

    def backward_cpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if not propagate_down[0]:
            return
        x, t, dx = bottom[0].read_data(), bottom[1].read_data().reshape(bottom[0].shape), bottom[0].diff
        valid, divisor = self._counted(t)
        np.subtract(logistic(x), t, out=dx)
        dx *= self.loss_weight(top) / divisor
        if valid is not None:
            dx *= valid

    def forward_gpu(self, bottom, top):
        n, x, t = bottom[0].count, bottom[0].gpu_data(), bottom[1].gpu_data()
        self.kernel("losses")(n, x, t, *self.ignore_rule, *self.terms.pointers(n))
        outer = bottom[1].shape[0]
        fixed = self.fixed_divisor(self.mode, outer, n // max(outer, 1))
        self.terms.finish(n, fixed, top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if propagate_down[0]:
            x, t, dx = bottom[0].gpu_data(), bottom[1].gpu_data(), bottom[0].mutable_gpu_diff()
            weight, divisor = top[0].gpu_diff(), self.terms.divisor
            self.kernel("gradient")(bottom[0].count, x, t, *self.ignore_rule, weight, divisor, dx)
