"""SegAccuracy: pixel accuracy, mean class accuracy and mean intersection over union of label maps."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.loss import class_labels
from minicaffe.layers.shared.views import truncated
from minicaffe.saved import arrays


@register("SegAccuracy")
class SegAccuracy(Layer):
    """Three accuracies of segmentation, from the matrix m, m[t, p]: the pixels of class t that are predicted as p.

    accuracy = sum m[c, c] / sum m;  recall of c = m[c, c] / sum m[c];
    IoU of c = m[c, c] / (sum m[c] + sum m[:, c] - m[c, c]), 1 for a class that neither labels nor predictions have

    bottoms: scores (N, K, H, W); labels (N, 1, H, W), whole numbers 0 to K - 1.  The prediction of a pixel is the class
        with the largest score, the later of two equal ones; nan counts as minus infinity.
    top: (1, 1, 1, 3): the accuracy; the mean recall of the classes that labels have; the mean IoU of all K.

    seg_accuracy_param: ignore_label, repeated, labels of pixels that do not count; reset (true; false: m is that of all
        batches since the layer was built or its state was loaded).
    No gradient.  It runs on the CPU, in GPU mode too.
    Source: Chen et al., DeepLab, 2014; Zhao et al., PSPNet, 2016.
    """

    fork = "DeepLab"
    family = "loss"
    exact_num_bottom = 2
    exact_num_top = 1
    in_place = False
    backward_reads = ()
    capturable = False

    @property
    def repeatable(self):  # type: ignore[override]  # nothing sets it
        return self.reset

    def setup(self, bottom, top):
        param = self.layer_param.seg_accuracy_param
        self.ignored, self.reset = [*param.ignore_label], param.reset
        self.matrix: np.ndarray = np.zeros((0, 0), np.int64)

    def top_shapes(self, bottom_shapes):
        scores, labels = bottom_shapes
        if len(scores) != 4 or labels != (scores[0], 1, *scores[2:]):
            raise self.error(f"bottoms must be (N, K, H, W) and (N, 1, H, W), got {scores} and {labels}")
        return [(1, 1, 1, 3)]

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        classes = bottom[0].shape[1]
        if len(self.matrix) != classes:
            self.matrix = np.zeros((classes, classes), np.int64)

    def forward_cpu(self, bottom, top):
        scores, labels = bottom[0].read_data(), bottom[1].read_data()[:, 0]
        counted = ~np.isin(truncated(labels), self.ignored)
        classes = len(self.matrix)
        true, _ = class_labels(self, labels[counted], classes)
        scores = np.where(np.isnan(scores), -np.inf, scores)
        predicted = classes - 1 - scores[:, ::-1].argmax(1)[counted]
        if self.reset:
            self.matrix[...] = 0
        self.matrix += np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)
        top[0].data[...] = self.measures()

    def measures(self) -> tuple[float, float, float]:
        """Return accuracy, mean recall and mean IoU of the matrix; without a pixel 0, 0 and 1."""
        right, true, predicted = self.matrix.diagonal(), self.matrix.sum(1), self.matrix.sum(0)
        union = true + predicted - right
        recall = right[true > 0] / true[true > 0]
        overlap = np.where(union > 0, right / np.maximum(union, 1), 1.0)
        return right.sum() / max(true.sum(), 1), recall.mean() if recall.size else 0.0, overlap.mean()

    def forward_gpu(self, bottom, top):
        self.forward_cpu(bottom, top)

    def state(self):
        return super().state() if self.reset else {**super().state(), "matrix": [self.matrix.tolist()]}

    def load_state(self, state):
        super().load_state(state)
        if not self.reset:
            self.matrix = arrays(state, "matrix", [self.matrix.shape])[0].astype(np.int64)
