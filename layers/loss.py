"""What losses share: counts of bottoms and tops, the scalar top, labels, and what a sum of losses is divided by."""

from __future__ import annotations

import numpy as np

from minicaffe.layer import Layer
from minicaffe.proto.caffe_pb2 import LossParameter

LOG_THRESHOLD = 1e-20  #: probabilities are kept above it where a logarithm is taken


class LossLayer(Layer):
    """Base of losses: bottoms are the prediction and the label, the top is one number.

    The first top has loss_weight 1 unless the prototxt says otherwise, and may be left out of it.  In backward
    `top[0].diff` holds the loss weight.  No gradient goes to the label.
    """

    exact_num_bottom = 2
    exact_num_top = 1
    auto_top_blobs = True

    def default_loss_weight(self, top_index):
        return 1.0 if top_index == 0 else 0.0

    def allow_force_backward(self, bottom_index):
        return bottom_index != 1

    def top_shapes(self, bottom_shapes):
        prediction, label = bottom_shapes[:2]
        if prediction[:1] != label[:1]:
            raise self.error(f"bottoms 0 and 1 must agree in axis 0, got {prediction} and {label}")
        return [()]

    def refuse_label_gradient(self, propagate_down) -> None:
        """Raise when a gradient is asked for the label."""
        if propagate_down[1]:
            raise self.error("there is no gradient with respect to the label (bottom 1)")

    def loss_weight(self, top) -> float:
        """The weight that the net has put into the top's diff."""
        return float(top[0].read_diff())

    def read_normalization(self, absent: int = LossParameter.VALID) -> int:
        """The mode of loss_param: `normalization`, else its older form `normalize`, else `absent`."""
        param = self.layer_param.loss_param
        if param.HasField("normalization"):
            return param.normalization
        if param.HasField("normalize"):
            return LossParameter.VALID if param.normalize else LossParameter.BATCH_SIZE
        return absent

    def normalizer(self, mode: int, outer: int, inner: int, valid: int) -> float:
        """What the sum of losses is divided by, never less than 1.

        FULL: all outer * inner positions; VALID: the `valid` ones, which are not ignored; BATCH_SIZE: outer; NONE: 1.
        """
        divisors = {
            LossParameter.FULL: outer * inner,
            LossParameter.VALID: valid,
            LossParameter.BATCH_SIZE: outer,
            LossParameter.NONE: 1,
        }
        return max(1.0, float(divisors[mode]))


def ignored_label(param) -> int | None:
    """`ignore_label` of a LossParameter or AccuracyParameter, None when it is not given."""
    return param.ignore_label if param.HasField("ignore_label") else None


def class_labels(layer: Layer, labels: np.ndarray, classes: int, ignored: int | None = None):
    """Labels as int32, truncated as in C, and which of them count (None: all).

    A label outside 0 to classes - 1 that is not `ignored` raises `LayerError`.
    """
    with np.errstate(invalid="ignore"):
        whole = labels.astype(np.int32)
    valid = None if ignored is None else whole != ignored
    wrong = ((whole < 0) | (whole >= classes)) if valid is None else ((whole < 0) | (whole >= classes)) & valid
    if wrong.any():
        raise bad_label(layer, labels[wrong][0], classes)
    return whole, valid


def bad_label(layer: Layer, label: float, classes: int):
    """The error for a label that is none of the classes."""
    return layer.error(f"label {label:g} is out of range: there are {classes} classes, 0 to {classes - 1}")
