"""Accuracy: the share of samples whose label has one of the best scores."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.loss import DeviceTerms, class_labels, ignored_label, in_top
from minicaffe.layers.shared.softmax import three_axes


@register("Accuracy")
class Accuracy(Layer):
    """The share of positions whose label has fewer than top_k other scores at or above its own.

    A tie therefore counts against the label.  A label whose own score is nan is wrong (the original counts it as right,
    so that a diverged net has the accuracy 1); the nan of another class is below every number.

    Bottoms: scores (N, C, ...), labels: one for each position outside the class axis, 0 to C - 1.  Tops: the accuracy,
    one number; optionally (C,): the accuracy among the positions of each class, 0 for a class without any.
    accuracy_param: top_k (1), axis (1), ignore_label (positions with this label are left out).  No gradient.
    Extension (NormFace): min_is_better (false; true: the best scores are the smallest, as of distances).
    A label outside 0 to C - 1 raises LayerError; on the GPU, where labels are not read back, the accuracy is nan.
    """

    family = "loss"
    exact_num_bottom = 2
    min_top, max_top = 1, 2
    in_place = False
    backward_reads = ()

    @staticmethod
    def describe(layer_param):
        return f"top {layer_param.accuracy_param.top_k}"

    def setup(self, bottom, top):
        param = self.layer_param.accuracy_param
        self.top_k, self.given_axis = param.top_k, param.axis
        self.ignored = ignored_label(param)
        self.ignore_rule = (self.ignored is not None, self.ignored or 0)  # the form that kernels take
        self.sign = -1 if param.min_is_better else 1
        self.terms, self.per_class = DeviceTerms(self.dtype), Blob((), self.dtype)

    def top_shapes(self, bottom_shapes):
        scores, labels = bottom_shapes
        outer, classes, inner = three_axes(scores, self.given_axis)
        if outer * inner != int(np.prod(labels)):
            raise self.error(
                f"bottom 1 must hold one label for each position outside axis {self.given_axis} of bottom 0 {scores}, "
                f"{outer * inner} in all, got {labels}"
            )
        if self.top_k > classes:
            raise self.error(f"top_k must be at most the number of classes, {classes}, got {self.top_k}")
        return [(), (classes,)]

    def forward_cpu(self, bottom, top):
        outer, classes, inner = view = three_axes(bottom[0].shape, self.given_axis)
        scores = bottom[0].read_data().reshape(view)
        scores = -scores if self.sign < 0 else scores
        labels, valid = class_labels(self, bottom[1].read_data().reshape(outer, inner), classes, self.ignored)
        correct = in_top(scores, labels if valid is None else np.where(valid, labels, 0), self.top_k)
        if valid is not None:
            labels, correct = labels[valid], correct[valid]
        top[0].data[...] = correct.mean() if correct.size else 0
        if len(top) > 1:
            hits = np.bincount(labels.ravel(), correct.ravel(), minlength=classes)
            count = np.bincount(labels.ravel(), minlength=classes)
            top[1].data[...] = hits / np.maximum(count, 1)

    def forward_gpu(self, bottom, top):
        outer, classes, inner = three_axes(bottom[0].shape, self.given_axis)
        n, scores, labels = outer * inner, bottom[0].gpu_data(), bottom[1].gpu_data()
        correct, counted = self.terms.pointers(n)
        rule = self.top_k, self.sign
        self.kernel("correct")(n, classes, inner, *rule, scores, labels, *self.ignore_rule, correct, counted)
        self.terms.finish(n, 0, top[0].mutable_gpu_data())
        if len(top) > 1:
            self.per_class.reshape(classes)
            hits, count = top[1].mutable_gpu_data(), self.per_class.mutable_gpu_data()
            ops.fill(classes, 0, hits, self.dtype)
            ops.fill(classes, 0, count, self.dtype)
            self.kernel("count_by_class")(n, classes, labels, correct, counted, hits, count)
            self.kernel("shares")(classes, count, hits)
