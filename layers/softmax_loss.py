"""SoftmaxWithLoss: the negative log-likelihood of labels under a softmax."""

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.registry import register
from minicaffe.layers.shared.loss import DeviceTerms, LossLayer, class_labels, ignored_label
from minicaffe.layers.shared.softmax import row_geometry, softmax, three_axes


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(LossLayer):
    """loss = -sum of log p(label) / normalizer, with p = softmax(x) along `axis`.

    Bottoms: scores x (N, C, ...), labels (N, ...) or (N, 1, ...): one for each position outside the class axis, from
    0 to C - 1.  Tops: the loss, one number; optionally p, of the shape of x.
    softmax_param: axis (1).  loss_param: ignore_label (positions with this label have no loss), normalization (VALID:
    the number of positions that count).  p is at least the smallest normal float, so the loss of a position is at most
    87.3365.
    Extension (SegNet): with weight_by_label_freqs, the loss of a position is multiplied by the class_weighting of its
    label.
    """

    more_params = ("loss_param", "softmax_param")
    exact_num_top = None
    min_top, max_top = 1, 2
    backward_reads = ("bottom", "top")

    def setup(self, bottom, top):
        param = self.layer_param.loss_param
        self.given_axis, kind = self.layer_param.softmax_param.axis, self.layer_param.softmax_param.normalize_type
        if kind != "Softmax":
            raise self.error(f'normalize_type (NormFace) must be "Softmax", got "{kind}"')
        self.ignored = ignored_label(param)
        self.ignore_rule = (self.ignored is not None, self.ignored or 0)  # the form that kernels take
        self.mode = self.read_normalization()
        self.prob = Blob((), self.dtype)
        self.class_weights = None
        if param.weight_by_label_freqs:
            self.class_weights = Blob((len(param.class_weighting),), self.dtype)
            self.class_weights.data[...] = param.class_weighting
        self.terms = DeviceTerms(self.dtype)

    def top_shapes(self, bottom_shapes):
        scores, labels = bottom_shapes
        super().top_shapes(bottom_shapes)
        outer, classes, inner = three_axes(scores, self.given_axis)
        if self.class_weights is not None and self.class_weights.count != classes:
            raise self.error(f"class_weighting must be given {classes} times, got {self.class_weights.count}")
        if outer * inner != int(np.prod(labels)):
            raise self.error(
                f"bottom 1 must hold one label for each position outside axis {self.given_axis} of bottom 0 {scores}, "
                f"{outer * inner} in all, got {labels}"
            )
        return [(), scores]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.view = three_axes(bottom[0].shape, self.given_axis)
        self.prob.reshape(bottom[0].shape)
        if len(top) > 1:
            top[1].share_data(self.prob)

    def forward_cpu(self, bottom, top):
        p = self.prob.data.reshape(self.view)
        softmax(bottom[0].read_data().reshape(self.view), p)
        self._read_labels(bottom[1])
        self.losses = -np.log(np.maximum(p[self.at_labels], np.finfo(np.float32).tiny))  # (outer, inner)
        if self.share is not None:
            self.losses *= self.share
        top[0].data[...] = self.losses.sum() / self._divisor()

    def backward_cpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if not propagate_down[0]:
            return
        self._read_labels(bottom[1])
        dx = bottom[0].diff.reshape(self.view)
        scale = self.loss_weight(top) / self._divisor()
        np.multiply(self._prob(top).read_data().reshape(self.view), scale, out=dx)
        dx[self.at_labels] -= scale
        if self.share is not None:
            dx *= self.share[:, None]

    def forward_gpu(self, bottom, top):
        outer, classes, inner = self.view
        x, p, labels = bottom[0].gpu_data(), self.prob.mutable_gpu_data(), bottom[1].gpu_data()
        given = (labels, *self.ignore_rule, self._device_weights())
        results = p, self.wrong_label_gpu(classes), self.losses_gpu(top)
        arguments = (outer * inner, classes, inner, x, *given, *results)
        divisor, out = self.fixed_divisor(self.mode, outer, inner), top[0].mutable_gpu_data()
        self.terms.finish_by(self.kernel("forward"), *row_geometry(self.view), arguments, divisor, out)

    def losses_gpu(self, top) -> int:
        """Return the pointer to which the loss of each position is written; 0: it is not."""
        return 0

    def backward_gpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if not propagate_down[0]:
            return
        outer, classes, inner = self.view
        p, labels, dx = self._prob(top).gpu_data(), bottom[1].gpu_data(), bottom[0].mutable_gpu_diff()
        given = (labels, *self.ignore_rule, self._device_weights(), top[0].gpu_diff(), self.terms.divisor)
        grid, threads = row_geometry(self.view)
        self.kernel("gradient").launch(grid, threads, outer * inner, classes, inner, p, *given, dx)

    def _prob(self, top):
        """Return the blob of the probabilities."""
        return top[1] if len(top) > 1 else self.prob

    def _device_weights(self):
        return 0 if self.class_weights is None else self.class_weights.gpu_data()

    def _read_labels(self, labels):
        """Set the index of each position's label, which positions count, and their weights."""
        self.at_labels, self.valid = self._positions(labels)
        self.share = self._share()

    def _positions(self, labels):
        """Return the index of each position's label in (outer, classes, inner), and which positions count."""
        outer, classes, inner = self.view
        labels, valid = class_labels(self, labels.read_data().reshape(outer, inner), classes, self.ignored)
        if valid is not None:
            labels = np.where(valid, labels, 0)  # an ignored label may be outside the classes
        return (np.arange(outer)[:, None], labels, np.arange(inner)), valid

    def _share(self):
        """Return the factor of each position's loss: 0 if ignored, else the weight of its class; None: 1 everywhere."""
        if self.class_weights is None:
            return self.valid
        weights = self.class_weights.read_data()[self.at_labels[1]]
        return weights if self.valid is None else weights * self.valid

    def _divisor(self):
        outer, _, inner = self.view
        valid = outer * inner if self.valid is None else int(np.count_nonzero(self.valid))
        return self.normalizer(self.mode, outer, inner, valid)
