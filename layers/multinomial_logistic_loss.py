"""MultinomialLogisticLoss: the negative log-likelihood of labels, from probabilities."""

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.loss import LOG_THRESHOLD, DeviceTerms, LossLayer, class_labels


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(LossLayer):
    """loss = -sum of log p(label) / N, with p kept above 1e-20.

    Bottoms: probabilities p (N, C), such as the top of a Softmax; labels (N,), 0 to C - 1.  Top: one number.
    SoftmaxWithLoss computes the same from scores, with a smaller rounding error.
    """

    def setup(self, bottom, top):
        self.terms = DeviceTerms(self.dtype)

    def top_shapes(self, bottom_shapes):
        p, labels = bottom_shapes
        if np.prod(labels) != self.samples(p):
            raise self.error(f"bottom 1 must hold one label for each of the {p[0]} samples, got {labels}")
        return super().top_shapes(bottom_shapes)

    def _at_labels(self, bottom):
        """Return the index of the labels' probabilities in (N, C), and these probabilities."""
        p = bottom[0].read_data().reshape(bottom[0].shape[0], bottom[0].count_range(1))
        labels, _ = class_labels(self, bottom[1].read_data().reshape(-1), p.shape[1])
        index = np.arange(len(labels)), labels
        return index, np.maximum(p[index], p.dtype.type(LOG_THRESHOLD))

    def forward_cpu(self, bottom, top):
        _, p = self._at_labels(bottom)
        top[0].data[...] = -np.log(p).sum() / max(len(p), 1)

    def backward_cpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if propagate_down[0]:
            index, p = self._at_labels(bottom)
            dx = bottom[0].diff.reshape(len(p), bottom[0].count_range(1))
            dx[...] = 0
            dx[index] = -self.loss_weight(top) / max(len(p), 1) / p

    def forward_gpu(self, bottom, top):
        n, classes = bottom[0].shape[0], bottom[0].count_range(1)
        p, labels, (terms, _) = bottom[0].gpu_data(), bottom[1].gpu_data(), self.terms.pointers(n)
        self.kernel("losses")(n, classes, p, labels, self.wrong_label_gpu(classes), terms)
        self.terms.finish(n, max(n, 1), top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if propagate_down[0]:
            classes, p, labels = bottom[0].count_range(1), bottom[0].gpu_data(), bottom[1].gpu_data()
            weight, divisor, dx = top[0].gpu_diff(), self.terms.divisor, bottom[0].mutable_gpu_diff()
            self.kernel("gradient")(bottom[0].count, classes, p, labels, weight, divisor, dx)
