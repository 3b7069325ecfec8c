"""Which classes of maps of boxes are right, and how well their boxes overlap the annotated ones."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.layers.shared.map_boxes import decoded
from minicaffe.layers.shared.map_labels import MapLabels
from minicaffe.layers.shared.pixel_boxes import CodeStatistics
from minicaffe.layers.shared.yolo_boxes import Overlap


class MapAccuracy(Layer):
    """Base of DetectionAccuracy and DetectionGroupAccuracy."""

    family = "loss"
    more_params = ("loss_param", "bbox_reg_param")
    min_top, max_top = 1, 2
    capturable = False  # works on the host
    in_place = False
    backward_reads = ()
    top_k = 1  #: a class is right if it is among so many with the largest scores
    last_wins = False  #: which of equal scores is the larger one

    def message(self):
        """Return the message with the layer's parameters."""
        raise NotImplementedError

    def setup(self, bottom, top):
        self.param, self.statistics = self.message(), CodeStatistics(self)
        self.labels = MapLabels(self, self.param)

    def top_shapes(self, bottom_shapes):
        self.labels.check(bottom_shapes)
        return [(1, 1, 1, 2), (1, 1, 1, 1)]

    def forward_cpu(self, bottom, top):
        *given, labels = (blob.read_data() for blob in bottom)
        scores, codes = self.labels.split(given)
        classes, counted = self.labels.classes(labels)
        counted &= (classes != 0) | (labels[:, 5] < self.param.bg_threshold)
        objects = classes != 0
        own = np.take_along_axis(scores, np.where(counted, classes, 0)[:, None], 1)
        number = np.arange(scores.shape[1])[:, None, None]
        before = number > classes[:, None] if self.last_wins else number < classes[:, None]
        right = ((scores > own) | ((scores == own) & before)).sum(1) < self.top_k
        top[0].data = np.array([_mean(right[counted]), _mean(right[counted & objects])]).reshape(1, 1, 1, 2)
        if len(top) > 1:
            top[1].data[...] = _mean(self._overlaps(codes, labels, counted & objects))

    def _overlaps(self, codes: np.ndarray, labels: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Return the intersection over union of the boxes at some places with the annotated ones."""
        n, row, column = np.nonzero(which)
        restored, places = self.statistics.restored(codes[n, :, row, column]), np.column_stack([column, row])
        centre, size = decoded(restored, self.labels.sizes_of(n), places, self.labels.stride, self.param)
        return Overlap(np.concatenate([centre, size], 1).T, labels[n, 1:5, row, column].T).value()


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else -1.0
