"""SigmoidCrossEntropyLoss: the cross entropy of independent binary targets."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.elementwise import logistic
from minicaffe.layers.shared.loss import DeviceTerms, LossLayer, ignored_label
from minicaffe.proto.caffe_pb2 import LossParameter


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(LossLayer):
    """loss = -sum of (t log s + (1 - t) log(1 - s)) / normalizer, with s = sigmoid(x).

    Computed as sum of max(x, 0) - x t + log(1 + exp(-|x|)), which cannot overflow.

    Bottoms: scores x and targets t in [0, 1], (N, ...), with as many numbers each.  Top: one number.
    loss_param: ignore_label (a target that equals it when truncated has no loss), normalization (BATCH_SIZE).
    Extension (HED): with class_balanced, a target 1 counts with the share of zeros among the targets 0 and 1 of its
    sample, a target 0 with the share of ones times negative_weight (1; 1.1 in RCF), any other target not at all.  Nets
    with an ImageLabelmapData layer without `normalize`, those of HED and RCF, have it where it is not given.
    Extension (MNC): bottom 2, a weight for each number; the loss is the weighted sum divided by the sum of the weights,
    and 0 if that is not above 0.  loss_param then has no effect.
    """

    more_params = ("loss_param",)
    exact_num_bottom = None
    min_bottom, max_bottom = 2, 3
    no_gradient = (1, 2)

    def setup(self, bottom, top):
        self.ignored = ignored_label(self.layer_param.loss_param)
        self.ignore_rule = (self.ignored is not None, self.ignored or 0)  # the form that kernels take
        param = self.layer_param.loss_param
        self.balanced, self.negative_weight = param.class_balanced, param.negative_weight
        if self.balanced and self.ignored is not None:
            raise self.error("ignore_label must be absent with class_balanced, where only targets 0 and 1 count")
        self.shares = Blob((), self.dtype)  # on the device, of each sample: the weights of targets 1 and 0
        self.mode = self.read_normalization(absent=LossParameter.BATCH_SIZE)
        self.terms = DeviceTerms(self.dtype)
        self.total = Blob((), self.dtype)  # on the device: the sum of the weights

    def top_shapes(self, bottom_shapes):
        if len({int(np.prod(shape)) for shape in bottom_shapes}) > 1:
            raise self.error(f"bottoms must hold equally many numbers, got {' and '.join(map(str, bottom_shapes))}")
        return super().top_shapes(bottom_shapes)

    def _counted(self, bottom):
        """Return the weights of the targets, None if all are 1, and the normalizer."""
        targets = bottom[1].read_data().reshape(bottom[0].shape)
        if len(bottom) > 2:
            weights = bottom[2].read_data().reshape(targets.shape)
            total = weights.sum()
            return weights, total if total > 0 else np.inf
        n, count = targets.shape[0], targets.size
        weights = None if self.ignored is None else targets.astype(np.int32) != self.ignored
        if self.balanced:
            weights = self._balance(targets.reshape(n, count // max(n, 1))).reshape(targets.shape)
            counted = int(np.count_nonzero((targets == 0) | (targets == 1)))
        else:
            counted = count if weights is None else int(np.count_nonzero(weights))
        return weights, self.normalizer(self.mode, n, count // max(n, 1), counted)

    def _balance(self, targets):
        """Return the weights of targets (N, K) with class_balanced."""
        ones, zeros = targets == 1, targets == 0
        positive, negative = (each.sum(1, keepdims=True).astype(self.dtype) for each in (ones, zeros))
        both = np.maximum(positive + negative, 1)
        return ones * (negative / both) + zeros * (positive / both * self.dtype.type(self.negative_weight))

    def forward_cpu(self, bottom, top):
        x, t = bottom[0].read_data(), bottom[1].read_data().reshape(bottom[0].shape)
        weights, divisor = self._counted(bottom)
        losses = np.abs(x)
        np.exp(np.negative(losses, out=losses), out=losses)
        losses += 1
        np.log(losses, out=losses)  # several times as fast as log1p, as exact as the sum
        losses += np.maximum(x, 0)
        losses -= x * t
        if weights is not None:  # what does not count may be inf or nan
            losses = np.where(weights != 0, losses * weights, 0)
        top[0].data[...] = losses.sum() / divisor

    def backward_cpu(self, top, propagate_down, bottom):
        self._refuse(propagate_down)
        if not propagate_down[0]:
            return
        x, t, dx = bottom[0].read_data(), bottom[1].read_data().reshape(bottom[0].shape), bottom[0].diff
        weights, divisor = self._counted(bottom)
        np.subtract(logistic(x), t, out=dx)
        dx *= self.loss_weight(top) / divisor
        if weights is not None:
            dx *= weights

    def forward_gpu(self, bottom, top):
        n, x, t = bottom[0].count, bottom[0].gpu_data(), bottom[1].gpu_data()
        if len(bottom) > 2:
            losses, _ = self.terms.pointers(n)
            total, y, weights = self.total.mutable_gpu_data(), top[0].mutable_gpu_data(), bottom[2].gpu_data()
            self.kernel("weighted_losses")(n, x, t, weights, losses)
            ops.sum(n, weights, self.dtype, total)
            ops.sum(n, losses, self.dtype, y)
            self.kernel("by_total")(1, total, y)
            return
        if self.balanced:
            samples = bottom[0].shape[0]
            self.shares.reshape(samples, 2)
            if n:
                arguments = n // samples, self.negative_weight, t, self.shares.mutable_gpu_data()
                self.kernel("balance").launch((samples, 1), 256, *arguments)
        self.kernel("losses")(n, x, t, *self._rule(bottom[0]), *self.terms.pointers(n))
        outer = bottom[1].shape[0]
        fixed = self.fixed_divisor(self.mode, outer, n // max(outer, 1))
        self.terms.finish(n, fixed, top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        self._refuse(propagate_down)
        if propagate_down[0]:
            x, t, dx = bottom[0].gpu_data(), bottom[1].gpu_data(), bottom[0].mutable_gpu_diff()
            if len(bottom) > 2:
                given = bottom[2].gpu_data(), self.total.gpu_data(), top[0].gpu_diff()
                self.kernel("weighted_gradient")(bottom[0].count, x, t, *given, dx)
                return
            weight, divisor = top[0].gpu_diff(), self.terms.divisor
            self.kernel("gradient")(bottom[0].count, x, t, *self._rule(bottom[0]), weight, divisor, dx)

    def _refuse(self, propagate_down) -> None:
        for i, what in zip(range(1, len(propagate_down)), ("label", "weight")):
            self.refuse_gradient(propagate_down, i, what)

    def _rule(self, x):
        """Return which targets count, and how much, in the form that kernels take."""
        balanced = self.balanced and x.count > 0
        return *self.ignore_rule, self.shares.gpu_data() if balanced else 0, x.count // x.shape[0] if balanced else 1
