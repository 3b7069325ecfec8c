"""LabelsequenceAccuracy: the share of sequences that are read without an error."""

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.sequences import best_path, without
from minicaffe.layers.shared.views import truncated


@register("LabelsequenceAccuracy")
class LabelsequenceAccuracy(Layer):
    """The share of sequences whose best classes, each run of one class once and without blanks, are the labels.

    bottoms: scores (N, T, K); labels (N, L), padded with the blank.  top: one number.  No gradient.
    labelsequence_accuracy_param: blank_label (0).
    It runs on the CPU, in GPU mode too.
    Source: warpctc-caffe.
    """

    fork = "warpctc-caffe"
    family = "loss"
    exact_num_bottom, exact_num_top = 2, 1
    capturable = False  # works on the host
    in_place = False
    backward_reads = ()

    def setup(self, bottom, top):
        self.blank = self.layer_param.labelsequence_accuracy_param.blank_label

    def top_shapes(self, bottom_shapes):
        scores, labels = bottom_shapes
        if len(scores) != 3 or not scores[2] or not labels or labels[0] != scores[0]:
            raise self.error(f"bottoms must be scores (N, T, K) and labels (N, L), got {scores} and {labels}")
        return [()]

    def forward_cpu(self, bottom, top):
        found = best_path(bottom[0].read_data(), self.blank)
        wanted = without(
            truncated(bottom[1].read_data().reshape(bottom[1].shape[0], bottom[1].count_range(1)), int), self.blank
        )
        right = sum(each.tolist() == own.tolist() for each, own in zip(found, wanted))
        top[0].data[...] = right / max(len(found), 1)
