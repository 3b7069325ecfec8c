"""CenterLoss: the squared distance of features from a learned centre of their class."""

import numpy as np

from minicaffe.core.blob import Blob, canonical_axis
from minicaffe.core.registry import register
from minicaffe.cuda import ops
from minicaffe.layers.shared.loss import LossLayer, class_labels
from minicaffe.layers.shared.rows import add_rows


@register("CenterLoss")
class CenterLoss(LossLayer):
    """loss = sum of |x - centre(label)|^2 / 2N.

    Bottoms: features x (N, ...), labels (N,), 0 to num_output - 1.  Top: one number.
    Blobs: centres (num_output, features of a sample).  Their diff is not the derivative of the loss, but the
    update of the paper: for each class the sum of (centre - x) over its n samples, divided by n + 1.
    center_loss_param: num_output (number of classes), center_filler (constant 0), axis (1: the first axis of the
    features), distance_type ("L2"; NormFace's "L1": loss = sum of |x - centre(label)| / N, and the update and the
    gradient have the signs of centre - x and x - centre in their place).
    Source: Wen, Zhang, Li and Qiao, 2016.
    """

    fork = "Center loss"

    def setup(self, bottom, top):
        param = self.layer_param.center_loss_param
        self.classes, self.given_axis = param.num_output, param.axis
        if not self.classes:
            raise self.error("num_output, the number of classes, must be given")
        if param.distance_type not in ("L1", "L2"):
            raise self.error(f'distance_type must be "L1" or "L2", got "{param.distance_type}"')
        self.absolute = param.distance_type == "L1"
        self.distance = Blob((), self.dtype)  # x - centre; with L1 their signs

    def _split(self, shape):
        axis = canonical_axis(self.given_axis, len(shape))
        return int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))

    def param_shapes(self, bottom_shapes):
        return [((self.classes, self._split(bottom_shapes[0])[1]), self.layer_param.center_loss_param.center_filler)]

    def top_shapes(self, bottom_shapes):
        x, labels = bottom_shapes
        if np.prod(labels) != self._split(x)[0]:
            raise self.error(f"bottom 1 must hold one label for each of the {self._split(x)[0]} samples, got {labels}")
        return [()]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.distance.reshape(self._split(bottom[0].shape))
        if self.distance.shape[1] != self.blobs[0].shape[1]:
            raise self.error(f"centres have {self.blobs[0].shape[1]} features, bottom 0 has {self.distance.shape[1]}")

    def _labels(self, bottom):
        return class_labels(self, bottom[1].read_data().reshape(-1), self.classes)[0]

    def forward_cpu(self, bottom, top):
        d = self.distance.data
        np.subtract(bottom[0].read_data().reshape(d.shape), self.blobs[0].read_data()[self._labels(bottom)], out=d)
        if self.absolute:
            top[0].data[...] = np.abs(d).sum() / max(d.shape[0], 1)
            np.sign(d, out=d)
        else:
            top[0].data[...] = np.vdot(d, d) / (2 * max(d.shape[0], 1))

    def backward_cpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        d = self.distance.read_data()
        if self.param_propagate_down[0]:
            labels = self._labels(bottom)
            share = 1 / (1 + np.bincount(labels, minlength=self.classes)).astype(d.dtype)
            add_rows(self.blobs[0].diff, labels, d * -share[labels][:, None])
        if propagate_down[0]:
            np.multiply(d, self.loss_weight(top) / max(d.shape[0], 1), out=bottom[0].diff.reshape(d.shape))

    def forward_gpu(self, bottom, top):
        (n, width), d = self.distance.shape, self.distance.mutable_gpu_data()
        x, labels, centres = bottom[0].gpu_data(), bottom[1].gpu_data(), self.blobs[0].gpu_data()
        self.kernel("distances")(
            n * width, width, self.classes, x, labels, centres, self.wrong_label_gpu(self.classes), d
        )
        loss = top[0].mutable_gpu_data()
        if self.absolute:
            ops.asum(n * width, d, self.dtype, out=loss, alpha=1 / max(n, 1))
            self.kernel("signs")(n * width, d)
        else:
            ops.dot(n * width, d, d, self.dtype, out=loss, alpha=1 / (2 * max(n, 1)))

    def backward_gpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        (n, width), d, labels = self.distance.shape, self.distance.gpu_data(), bottom[1].gpu_data()
        if self.param_propagate_down[0]:
            step = self.blobs[0].mutable_gpu_diff()
            self.kernel("step_of_centres")(n * width, width, self.classes, n, labels, d, step)
        if propagate_down[0]:
            self.scaled_gpu(n * width, top, d, bottom[0].mutable_gpu_diff(), 1 / max(n, 1))
