"""MapDetectionLoss, MS-CNN's DetectionLoss: the loss of the classes and boxes of a map."""

from __future__ import annotations

import numpy as np

from minicaffe.core.registry import register
from minicaffe.layers.shared.loss import LossLayer
from minicaffe.layers.shared.map_boxes import code_limits
from minicaffe.layers.shared.map_labels import MapLabels
from minicaffe.layers.shared.map_sampling import negatives
from minicaffe.layers.shared.pixel_boxes import CodeStatistics
from minicaffe.layers.shared.softmax import softmax

_LEAST_SIDE = 2  # pixels of an annotated box, in its code


@register("MapDetectionLoss")
class MapDetectionLoss(LossLayer):
    """loss = mean of w * cross entropy over the places that count + lambda * mean of box losses

    bottoms: a map (N, K + 4, H, W), scores of K classes, the first the background, then the code of the box; its labels
        (N, 6, H, W), as of ImageGtData
    top: (1, 1, 1, 2), the loss, and its second term; the gradient is that of the first number

    The places with an object count, and those of the background that sample_mode chooses from what overlaps a box by
    less than bg_threshold.  The box loss is over the four numbers of each code of an object: the smooth L1 loss, or
    half the square.  A predicted number beyond the limits counts as the limit, with the gradient of what is left.

    detection_loss_param: cls_num K; lambda 1; field_w, field_h and downsample_rate of the map; bb_smooth true;
        field_whr 2, field_xyr 2, limits of the code; bg_threshold 0.5; bg_multiple 4, sample_mode "random" (or
        "bootstrap", "mixture", anything else: all); objectness false (true: K is 2, all objects are class 1);
        iou_weighted false (true: w of an object is its overlap); pos_neg_weighted false (true: w is scaled so that all
        backgrounds weigh bg_multiple times as much as all objects).
    loss_param: ignore_label.  bbox_reg_param: bbox_mean and bbox_std of the codes.
    It runs on the CPU, in GPU mode too.  Prototxts call it DetectionLoss, as YOLO v1's layer; cls_num tells them apart.
    Source: Cai, Fan, Feris and Vasconcelos, A unified multi-scale deep convolutional neural network for fast object
    detection, 2016.
    """

    fork = "MS-CNN"
    param_field = "detection_loss_param"
    more_params = ("loss_param", "bbox_reg_param")
    capturable = False  # works on the host

    def setup(self, bottom, top):
        self.param, self.statistics = self.layer_param.detection_loss_param, CodeStatistics(self)
        self.labels = MapLabels(self, self.param)

    def top_shapes(self, bottom_shapes):
        self.labels.check(*bottom_shapes)
        return [(1, 1, 1, 2)]

    def forward_cpu(self, bottom, top):
        x, labels = (blob.read_data() for blob in bottom)
        classes, counted = self.labels.classes(labels)
        objects = counted & (labels[:, 0].astype(np.int64) != 0)
        eligible = counted & (classes == 0) & (labels[:, 5] < self.param.bg_threshold)
        kept = negatives(self.param, np.where(objects, classes, 0), eligible, x[:, :-4], self.rng)
        self.slopes = np.zeros_like(x)
        losses = self._class_loss(x[:, :-4], classes, objects, kept, labels[:, 5])
        boxes = getattr(self.param, "lambda") * self._box_loss(x[:, -4:], labels, objects)
        top[0].data[...] = np.array([losses + boxes, boxes]).reshape(1, 1, 1, 2)

    def backward_cpu(self, top, propagate_down, bottom):
        self.refuse_gradient(propagate_down)
        if propagate_down[0]:
            np.multiply(self.slopes, self.loss_weight(top), out=bottom[0].diff)

    def loss_weight(self, top):
        return float(top[0].read_diff().flat[0])

    def _class_loss(self, scores, classes, objects, kept, overlaps) -> float:
        """Return the mean cross entropy, and write its slopes."""
        count = np.count_nonzero(objects | kept)
        if not count:
            return 0.0
        weights = self._weights(objects, kept, overlaps) / count
        p = np.empty_like(scores)
        softmax(scores, p)
        own = np.where(objects, classes, 0)[:, None]
        likelihood = np.maximum(np.take_along_axis(p, own, 1)[:, 0], np.finfo(np.float32).tiny)
        np.put_along_axis(p, own, np.take_along_axis(p, own, 1) - 1, 1)
        np.multiply(p, weights[:, None], out=self.slopes[:, :-4])
        return -float((np.log(likelihood) * weights).sum())

    def _weights(self, objects, kept, overlaps) -> np.ndarray:
        """Return the weight of each place, 0 for those that do not count."""
        param, weights = self.param, np.where(objects | kept, 1, 0).astype(self.dtype)
        if param.iou_weighted:
            weights[objects] = overlaps[objects]
        if param.pos_neg_weighted and weights[objects].sum():
            share, count = 1 / (1 + param.bg_multiple), int(np.count_nonzero(objects | kept))
            weights[objects] *= share * count / weights[objects].sum()
            weights[kept] *= (1 - share) * count / max(1, int(np.count_nonzero(kept)))
        return weights

    def _box_loss(self, codes, labels, objects) -> float:
        """Return the mean loss of the numbers of objects' codes, and write its slopes times lambda."""
        n, row, column = np.nonzero(objects)
        if not len(n):
            return 0.0
        field = np.array([self.param.field_w, self.param.field_h], self.dtype)
        places = (np.column_stack([column, row]) + 0.5) * self.param.downsample_rate
        truth = labels[n, 1:5, row, column]
        sides = np.log(np.maximum(truth[:, 2:], _LEAST_SIDE) / field)
        targets = self.statistics.normalized(np.column_stack([(truth[:, :2] - places) / field, sides]))
        mean, std = self.statistics.mean.reshape(2, 2).mean(1), np.sqrt(self.statistics.std.reshape(2, 2).prod(1))
        limits, mean, std = code_limits(self.param), np.repeat(mean, 2), np.repeat(std, 2)
        d = np.clip(codes[n, :, row, column], (-limits - mean) / std, (limits - mean) / std) - targets
        if self.param.bb_smooth:
            losses, slopes = np.where(np.abs(d) < 1, d * d / 2, np.abs(d) - 0.5), np.clip(d, -1, 1)
        else:
            losses, slopes = d * d / 2, d
        self.slopes[n, -4:, row, column] = slopes * (getattr(self.param, "lambda") / d.size)
        return float(losses.sum()) / d.size
