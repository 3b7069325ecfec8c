"""The loss of the classes and boxes of maps."""

from __future__ import annotations

import numpy as np

from minicaffe.layers.shared.loss import LossLayer
from minicaffe.layers.shared.map_boxes import code_limits
from minicaffe.layers.shared.map_labels import MapLabels
from minicaffe.layers.shared.pixel_boxes import CodeStatistics
from minicaffe.layers.shared.softmax import softmax

_LEAST_SIDE = 2  # pixels of an annotated box, in its code


class MapLoss(LossLayer):
    """Base of MapDetectionLoss and DetectionGroupLoss: the message, which places count, and some weights differ."""

    more_params = ("loss_param", "bbox_reg_param")
    capturable = False  # works on the host
    repeatable = False  # draws places of the background in TEST, too
    smooth, limited = True, True  #: the smooth L1 loss; a predicted number beyond the limits counts as the limit

    def message(self):
        """Return the message with the layer's parameters."""
        raise NotImplementedError

    def chosen(self, classes, objects, eligible, scores) -> tuple[np.ndarray, np.ndarray]:
        """Return which places count as objects, and which as background, (N, H, W) bool.

        classes: (N, H, W), 0 where there is no object.  objects, eligible: which may count.  scores: (N, K, H, W).
        """
        raise NotImplementedError

    def setup(self, bottom, top):
        self.param, self.statistics = self.message(), CodeStatistics(self)
        self.labels = MapLabels(self, self.param)

    def top_shapes(self, bottom_shapes):
        self.labels.check(bottom_shapes)
        return [(1, 1, 1, 2)]

    def forward_cpu(self, bottom, top):
        *given, labels = (blob.read_data() for blob in bottom)
        self.slopes = [np.zeros_like(x) for x in given]
        (scores, codes), (of_scores, of_codes) = self.labels.split(given), self.labels.split(self.slopes)
        classes, counted = self.labels.classes(labels)
        objects = counted & (labels[:, 0].astype(np.int64) != 0)
        eligible = counted & (classes == 0) & (labels[:, 5] < self.param.bg_threshold)
        objects, kept = self.chosen(np.where(objects, classes, 0), objects, eligible, scores)
        losses = self._class_loss(scores, of_scores, classes, objects, kept, labels[:, 5])
        boxes = getattr(self.param, "lambda") * self._box_loss(codes, of_codes, labels, objects)
        top[0].data[...] = np.array([losses + boxes, boxes]).reshape(1, 1, 1, 2)

    def backward_cpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down, len(bottom) - 1)
        for blob, slopes, wanted in zip(bottom, self.slopes, propagate_down):
            if wanted:
                np.multiply(slopes, self.loss_weight(top), out=blob.diff)

    def loss_weight(self, top):
        return float(top[0].read_diff().flat[0])

    def weights(self, objects, kept, overlaps) -> np.ndarray:
        """Return the weight of each place, 0 for those that do not count."""
        param, weights = self.param, np.where(objects | kept, 1, 0).astype(self.dtype)
        if getattr(param, "iou_weighted", False):
            weights[objects] = overlaps[objects]
        if param.pos_neg_weighted and weights[objects].sum():
            share, count = 1 / (1 + param.bg_multiple), int(np.count_nonzero(objects | kept))
            weights[objects] *= share * count / weights[objects].sum()
            weights[kept] *= (1 - share) * count / max(1, int(np.count_nonzero(kept)))
        return weights

    def _class_loss(self, scores, slopes, classes, objects, kept, overlaps) -> float:
        """Return the mean cross entropy, and write its slopes."""
        count = np.count_nonzero(objects | kept)
        if not count:
            return 0.0
        weights = self.weights(objects, kept, overlaps) / count
        p = np.empty_like(scores)
        softmax(scores, p)
        own = np.where(objects, classes, 0)[:, None]
        likelihood = np.maximum(np.take_along_axis(p, own, 1)[:, 0], np.finfo(np.float32).tiny)
        np.put_along_axis(p, own, np.take_along_axis(p, own, 1) - 1, 1)
        np.multiply(p, weights[:, None], out=slopes)
        return -float((np.log(likelihood) * weights).sum())

    def _box_loss(self, codes, slopes, labels, objects) -> float:
        """Return the mean loss of the numbers of objects' codes, and write its slopes times lambda."""
        n, row, column = np.nonzero(objects)
        if not len(n):
            return 0.0
        field, predicted = self.labels.sizes_of(n), codes[n, :, row, column]
        places = (np.column_stack([column, row]) + 0.5) * self.labels.stride
        truth = labels[n, 1:5, row, column]
        sides = np.log(np.maximum(truth[:, 2:], _LEAST_SIDE) / field)
        targets = self.statistics.normalized(np.column_stack([(truth[:, :2] - places) / field, sides]))
        if self.limited:
            mean, std = self.statistics.mean.reshape(2, 2).mean(1), np.sqrt(self.statistics.std.reshape(2, 2).prod(1))
            limits, mean, std = code_limits(self.param), np.repeat(mean, 2), np.repeat(std, 2)
            predicted = np.clip(predicted, (-limits - mean) / std, (limits - mean) / std)
        d = predicted - targets
        losses, slope = d * d / 2, d
        if self.smooth:
            losses, slope = np.where(np.abs(d) < 1, losses, np.abs(d) - 0.5), np.clip(d, -1, 1)
        slopes[n, :, row, column] = slope * (getattr(self.param, "lambda") / d.size)
        return float(losses.sum()) / d.size
