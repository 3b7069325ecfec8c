"""DetectionAccuracy: which classes of a map of boxes are right, and how well its boxes overlap the annotated ones."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.map_boxes import decoded
from minicaffe.layers.shared.map_labels import MapLabels
from minicaffe.layers.shared.pixel_boxes import CodeStatistics
from minicaffe.layers.shared.yolo_boxes import Overlap


@register("DetectionAccuracy")
class DetectionAccuracy(Layer):
    """Accuracy of all places that count and of those with an object; the mean overlap of the boxes at these.

    bottoms: a map (N, K + 4, H, W), scores of K classes, the first the background, then the code of the box; its labels
        (N, 6, H, W), as of ImageGtData
    tops: both accuracies (1, 1, 1, 2); optionally the mean intersection over union (1, 1, 1, 1).  -1 where nothing
        counts.

    A place of the background that overlaps a box by bg_threshold or more does not count.

    detection_accuracy_param: cls_num K; field_w, field_h and downsample_rate of the map; top_k 1: a class is right if
        it is among the top_k largest scores; field_whr 2 and field_xyr 4, limits of the code; bg_threshold 0.5;
        objectness false (true: K is 2, all objects are class 1).
    loss_param: ignore_label.  bbox_reg_param: bbox_mean and bbox_std of the codes.
    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: Cai, Fan, Feris and Vasconcelos, A unified multi-scale deep convolutional neural network for fast object
    detection, 2016.
    """

    fork = "MS-CNN"
    family = "loss"
    more_params = ("loss_param", "bbox_reg_param")
    exact_num_bottom = 2
    min_top, max_top = 1, 2
    capturable = False  # works on the host
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.param, self.statistics = self.layer_param.detection_accuracy_param, CodeStatistics(self)
        self.labels = MapLabels(self, self.param)
        if not 1 <= self.param.top_k <= self.param.cls_num:
            raise self.error(f"top_k must be from 1 to cls_num {self.param.cls_num}, got {self.param.top_k}")

    def top_shapes(self, bottom_shapes):
        self.labels.check(*bottom_shapes)
        return [(1, 1, 1, 2), (1, 1, 1, 1)]

    def forward_cpu(self, bottom, top):
        x, labels = (blob.read_data() for blob in bottom)
        classes, counted = self.labels.classes(labels)
        counted &= (classes != 0) | (labels[:, 5] < self.param.bg_threshold)
        scores, objects = x[:, :-4], classes != 0
        own = np.take_along_axis(scores, np.where(counted, classes, 0)[:, None], 1)
        number = np.arange(scores.shape[1])[:, None, None]  # of equal scores, the last class comes first
        better = (scores > own) | ((scores == own) & (number > classes[:, None]))
        right = better.sum(1) < self.param.top_k
        top[0].data = np.array([_mean(right[counted]), _mean(right[counted & objects])]).reshape(1, 1, 1, 2)
        if len(top) > 1:
            top[1].data[...] = _mean(self._overlaps(x, labels, counted & objects))

    def _overlaps(self, x: np.ndarray, labels: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Return the intersection over union of the boxes at some places with the annotated ones."""
        n, row, column = np.nonzero(which)
        codes = self.statistics.restored(x[n, -4:, row, column])
        field = np.array([[self.param.field_w, self.param.field_h]], x.dtype)
        places = np.column_stack([column, row])
        centre, size = decoded(codes, field, places, self.param.downsample_rate, self.param)
        return Overlap(np.concatenate([centre, size], 1).T, labels[n, 1:5, row, column].T).value()


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else -1.0
