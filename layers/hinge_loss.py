"""HingeLoss: the one-versus-all hinge loss, with a margin of 1."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.layers.shared.loss import DeviceTerms, LossLayer, class_labels
from minicaffe.proto.caffe_pb2 import HingeLossParameter


@register("HingeLoss")
class HingeLoss(LossLayer):
    """loss = sum of max(0, 1 - s x)^p / N, with s = 1 at a sample's label and -1 at all other classes.

    Bottoms: scores x (N, C), labels (N,), 0 to C - 1.  Top: one number.
    hinge_loss_param: norm, L1 (p = 1, the default) or L2 (p = 2).
    """

    def setup(self, bottom, top):
        self.squared = self.layer_param.hinge_loss_param.norm == HingeLossParameter.L2
        self.margins = Blob((), self.dtype)  # max(0, 1 - s x), negated at the label: the derivative without p
        self.terms = DeviceTerms(self.dtype)

    def top_shapes(self, bottom_shapes):
        scores, labels = bottom_shapes
        if np.prod(labels) != self.samples(scores):
            raise self.error(f"bottom 1 must hold one label for each of the {scores[0]} samples, got {labels}")
        return super().top_shapes(bottom_shapes)

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.view = bottom[0].shape[0], bottom[0].count_range(1)
        self.margins.reshape(self.view)

    def forward_cpu(self, bottom, top):
        n, classes = self.view
        labels, _ = class_labels(self, bottom[1].read_data().reshape(n), classes)
        margins, at_label = self.margins.data, (np.arange(n), labels)
        np.copyto(margins, bottom[0].read_data().reshape(self.view))
        margins[at_label] *= -1
        np.maximum(0, 1 + margins, out=margins)
        top[0].data[...] = (np.square(margins) if self.squared else margins).sum() / max(n, 1)
        margins[at_label] *= -1

    def backward_cpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if propagate_down[0]:
            margins, dx = self.margins.read_data(), bottom[0].diff.reshape(self.view)
            scale = self.loss_weight(top) / max(self.view[0], 1)
            if self.squared:
                np.multiply(margins, 2 * scale, out=dx)
            else:
                np.multiply(np.sign(margins), scale, out=dx)

    def forward_gpu(self, bottom, top):
        n, classes = self.view
        x, labels, margins = bottom[0].gpu_data(), bottom[1].gpu_data(), self.margins.mutable_gpu_data()
        terms, _ = self.terms.pointers(n * classes)
        wrong = self.wrong_label_gpu(classes)
        self.kernel("losses")(n * classes, classes, self.squared, x, labels, wrong, margins, terms)
        self.terms.finish(n * classes, max(n, 1), top[0].mutable_gpu_data())

    def backward_gpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if propagate_down[0]:
            weight, divisor, margins = top[0].gpu_diff(), self.terms.divisor, self.margins.gpu_data()
            dx = bottom[0].mutable_gpu_diff()
            self.kernel("gradient")(bottom[0].count, self.squared, weight, divisor, margins, dx)
