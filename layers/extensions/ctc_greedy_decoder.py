"""CTCGreedyDecoder: reads the labels of the best classes, or compares them with given ones."""

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.core.registry import register
from minicaffe.layers.shared.sequences import best_path, edit_distance, without
from minicaffe.layers.shared.views import truncated


@register("CTCGreedyDecoder")
class CTCGreedyDecoder(Layer):
    """The best class of each step, each run of one class once and without blanks.

    bottom 0: scores (T, N, K).
    Alone, top: (N, T, 1, 1), the labels, -1 behind the last.
    With bottom 1, labels (N, L), up to the first negative one and without blanks, top: (1, 2, 1, 1), 1 minus the mean
    of edit distance / length of the longer one (0 if both are empty), and the share of sequences without an error.
    ctc_decoder_param: blank_index (0; negative: the last class), ctc_merge_repeated (true; false: all of a run count).
    There is no backward pass.  It runs on the CPU, in GPU mode too.
    Source: caffe_ocr.
    """

    fork = "caffe_ocr"
    family = "loss"
    param_field = "ctc_decoder_param"
    min_bottom, max_bottom = 1, 2
    exact_num_top = 1
    capturable = False  # works on the host
    in_place = False
    backward_reads = ()

    def top_shapes(self, bottom_shapes):
        scores, *labels = bottom_shapes
        if len(scores) < 3 or 0 in scores or any(length != 1 for length in scores[3:]):
            raise self.error(f"bottom 0 must be scores (T, N, K), got {scores}")
        if labels and labels[0][:1] != scores[1:2]:
            raise self.error(f"bottom 1 must be labels (N, L) with N = {scores[1]}, got {labels[0]}")
        return [(1, 2, 1, 1) if labels else (scores[1], scores[0], 1, 1)]

    def forward_cpu(self, bottom, top):
        param, (steps, sequences, classes) = self.layer_param.ctc_decoder_param, bottom[0].shape[:3]
        blank = classes - 1 if param.blank_index < 0 else param.blank_index
        scores = bottom[0].read_data().reshape(steps, sequences, classes).swapaxes(0, 1)
        found = best_path(scores, blank, param.ctc_merge_repeated)
        if len(bottom) == 1:
            rows = top[0].data.reshape(sequences, steps)
            rows[...] = -1
            for row, labels in zip(rows, found):
                row[: len(labels)] = labels
            return
        given = bottom[1].read_data().reshape(sequences, bottom[1].count_range(1))
        ended = np.logical_or.accumulate(given < 0, axis=1)
        wanted = without(truncated(np.where(ended, blank, np.floor(given + 0.5)), int), blank)
        errors = [edit_distance(*pair) / max(*map(len, pair), 1) for pair in zip(wanted, found)]
        top[0].data[...] = np.reshape([1 - np.mean(errors), np.mean(np.array(errors) == 0)], (1, 2, 1, 1))
